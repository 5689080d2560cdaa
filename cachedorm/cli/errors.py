"""Errors of the command line: one line and exit status 2, never a traceback."""

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

USAGE_ERROR = 2
INTERRUPTED = 130
# Click's own classes have no public name in typer, and newer typers carry a Click of their own.
_USAGE: Any = typer.BadParameter.__mro__[1]
_CLICK: Any = typer.BadParameter.__mro__[2]
# user:password@ of a URL, up to the last @ of the word: a password may hold one itself.
_ACCOUNT = re.compile(r"(?<=://)([^\s:/@'\"]*):[^\s'\"]*@")
_SETTING = re.compile(r"(?i)\b(password|passwd|pwd|secret|token)(\s*=\s*)('[^']*'|[^\s&,;'\")]+)")


class CommandError(Exception):
    """The command cannot do what was asked; the text says why and what to do."""


def masked(text: str) -> str:
    """The text with the passwords of URLs and connection strings masked."""
    return _SETTING.sub(r"\1\2***", _ACCOUNT.sub(r"\1:***@", text))


def one_line(error: BaseException | str) -> str:
    """The error's text on one line, cut after its first two lines."""
    text = str(error)
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()][:2]
    line = masked(" ".join(lines))
    if isinstance(error, str | CommandError | CachedormError):
        return line
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


@contextmanager
def command_errors() -> Iterator[None]:
    """Turn errors of the library and of the database into CommandError."""
    try:
        yield
    except (CachedormError, SQLAlchemyError) as error:
        raise CommandError(one_line(error)) from error


class CommandGroup(TyperGroup):
    """The command line: prints every expected error as one line."""

    def main(self, *args: Any, **options: Any) -> Any:
        options["standalone_mode"] = False
        _escape_unencodable_output()
        try:
            _check_text(args[0] if args else options.get("args") or sys.argv[1:])
            code = super().main(*args, **options)
        except CommandError as error:
            _leave(one_line(error))
        except _USAGE as error:
            if not error.format_message():
                raise SystemExit(USAGE_ERROR) from None  # the help is printed already
            _leave(f"{one_line(error.format_message())} {_hint(error)}".strip())
        except _CLICK as error:
            _leave(one_line(error.format_message()))
        except (KeyboardInterrupt, typer.Abort):
            raise SystemExit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader of the pipe has closed it; drop what is still buffered.
            sys.stdout = None
            raise SystemExit(1) from None
        except OSError as error:
            sys.stdout = None  # the output is full, for example
            _leave(one_line(error))
        raise SystemExit(code if isinstance(code, int) else 0)


def _check_text(words: Iterable[str]) -> None:
    """Raise CommandError for bytes that are not UTF-8; no key of the library has such."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            shown = word.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            raise CommandError(f"{shown}: not UTF-8 text") from None


def _escape_unencodable_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _hint(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return f"(see {context.command_path} --help)" if context is not None else ""


def _leave(text: str) -> NoReturn:
    sys.stderr.write(f"cachedorm: {text}\n")
    raise SystemExit(USAGE_ERROR)
