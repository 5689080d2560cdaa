"""Wrong input: one line that says what, and exit status 2; never a traceback."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from sqlalchemy.exc import SQLAlchemyError
from typer.core import TyperGroup

from cachedorm.errors import CachedormError

WRONG = 2
INTERRUPTED = 130
# Click's own classes have no public name in typer, and newer typers carry a Click of their own.
_USAGE: Any = typer.BadParameter.__mro__[1]
_CLICK: Any = typer.BadParameter.__mro__[2]
# user:password@ of a URL, up to the last @ of the word: a password may hold one itself.
_ACCOUNT = re.compile(r"(?<=://)([^\s:/@'\"]*):[^\s'\"]*@")
_SETTING = re.compile(r"(?i)\b(password|passwd|pwd|secret|token)(\s*=\s*)('[^']*'|[^\s&,;'\")]+)")


class Refused(Exception):
    """The command cannot do what was asked: the text says why, and what to do."""


def masked(text: str) -> str:
    """The text without the passwords of URLs and connection strings in it."""
    return _SETTING.sub(r"\1\2***", _ACCOUNT.sub(r"\1:***@", text))


def one_line(error: BaseException | str) -> str:
    """What an error says, in a line; of a long one its first two lines."""
    text = str(error)
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()][:2]
    said = masked(" ".join(lines))
    if isinstance(error, str | Refused | CachedormError):
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


@contextmanager
def refusing() -> Iterator[None]:
    """Within the block, errors of the library and of the database are a refusal."""
    try:
        yield
    except (CachedormError, SQLAlchemyError) as error:
        raise Refused(one_line(error)) from error


class Commands(TyperGroup):
    """The command line itself: what goes wrong is said in one line."""

    def main(self, *args: Any, **options: Any) -> Any:
        options["standalone_mode"] = False
        _spell_out_what_the_output_cannot_hold()
        try:
            _check_text(args[0] if args else options.get("args") or sys.argv[1:])
            code = super().main(*args, **options)
        except Refused as error:
            _leave(one_line(error))
        except _USAGE as error:
            if not error.format_message():
                raise SystemExit(WRONG) from None  # the help is printed already
            _leave(f"{one_line(error.format_message())} {_hint(error)}".strip())
        except _CLICK as error:
            _leave(one_line(error.format_message()))
        except (KeyboardInterrupt, typer.Abort):
            raise SystemExit(INTERRUPTED) from None
        except BrokenPipeError:
            # Whoever read it has enough; what is still in the buffer has nowhere to go.
            sys.stdout = None
            raise SystemExit(1) from None
        except OSError as error:
            sys.stdout = None  # as above: it is full, say
            _leave(one_line(error))
        raise SystemExit(code if isinstance(code, int) else 0)


def _check_text(words: Iterable[str]) -> None:
    """Refused for bytes that are no text: no key that the library makes has such."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            shown = word.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            raise Refused(f"{shown}: that is no UTF-8 text") from None


def _spell_out_what_the_output_cannot_hold() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _hint(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return f"(see {context.command_path} --help)" if context is not None else ""


def _leave(text: str) -> NoReturn:
    sys.stderr.write(f"cachedorm: {text}\n")
    raise SystemExit(WRONG)
