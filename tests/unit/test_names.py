"""One word for one thing: a public name stands for one thing, and error texts are plain."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "cachedorm").rglob("*.py"))

RETIRED = re.compile(
    r"\b(is no|nobody|whoever|somebody|anew|is told|so many|mend|is away)\b(?! longer)"
)
LOG_CALLS = {"debug", "info", "warning", "error", "exception", "critical"}


def public_names(tree: ast.Module) -> Iterator[str]:
    """The classes, functions, constants and aliases that a module defines at its top."""
    for node in tree.body:
        match node:
            case (
                ast.ClassDef(name=name)
                | ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
            ):
                found = [name]
            case ast.Assign(targets=targets, value=value) if not _is_type_variable(value):
                found = [each.id for each in targets if isinstance(each, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                found = [name]
            case _:
                found = []
        yield from (name for name in found if not name.startswith("_"))


def _is_type_variable(value: ast.expr) -> bool:
    match value:
        case ast.Call(func=ast.Name(id="TypeVar" | "ParamSpec")):
            return True
    return False


def told(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The line and the text of each string that an error or a log call may show."""
    for node in ast.walk(tree):
        match node:
            case ast.Raise(exc=ast.Call() as call):
                yield from _strings(call)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attr)):
                if name in {"logger", "_logger", "log"} and attr in LOG_CALLS:
                    yield from _strings(node)


def _strings(call: ast.Call) -> Iterator[tuple[int, str]]:
    for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
        for node in ast.walk(argument):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.lineno, node.value


def names_defined_twice(modules: dict[str, ast.Module]) -> dict[str, list[str]]:
    """The public names that several modules define, with those modules."""
    places: dict[str, list[str]] = defaultdict(list)
    for path, tree in modules.items():
        for name in dict.fromkeys(public_names(tree)):
            places[name].append(path)
    return {name: paths for name, paths in sorted(places.items()) if len(paths) > 1}


def parsed() -> dict[str, ast.Module]:
    """Every module of the library by its path."""
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in MODULES}


def test_a_name_stands_for_one_thing() -> None:
    """No two modules define a public name of one spelling."""
    found = names_defined_twice(parsed())
    assert not found, "\n" + "\n".join(f"{name}: {', '.join(at)}" for name, at in found.items())


def test_plain_errors() -> None:
    """No error and no log line speaks in the words that the library has given up."""
    found = [
        f"{path}:{line}: {text!r}"
        for path, tree in parsed().items()
        for line, text in told(tree)
        if RETIRED.search(text)
    ]
    assert not found, "\n" + "\n".join(found)


def test_names_are_seen() -> None:
    """Classes, functions, constants and aliases count; private names and type variables do not."""
    source = (
        "class A: ...\ndef b(): ...\nC = 1\nD: int = 2\nasync def e(): ...\n"
        '_F = 3\n__all__ = ["A"]\nT = TypeVar("T")\nif True:\n    G = 4\n'
    )
    assert list(public_names(ast.parse(source))) == ["A", "b", "C", "D", "e"]
    twice = names_defined_twice(
        {"x.py": ast.parse("A = 1\nA = 2"), "y.py": ast.parse("class A: 0")}
    )
    assert twice == {"A": ["x.py", "y.py"]}


@pytest.mark.parametrize(
    "source",
    [
        'raise ValueError(f"{x} is no y")',
        'raise Foreign(who, text="that " "nobody writes")',
        'logger.warning("%s is away", server)',
    ],
)
def test_retired_words_are_seen(source: str) -> None:
    """A retired word is found in f-strings, keywords, joined strings and log calls."""
    assert any(RETIRED.search(text) for _, text in told(ast.parse(source)))


def test_other_words_pass() -> None:
    """A word within a word, and what is neither an error nor a log line, is left alone."""
    source = 'raise ValueError("recommended, amend; is no longer there")\nx = "nobody"'
    assert not any(RETIRED.search(text) for _, text in told(ast.parse(source)))
