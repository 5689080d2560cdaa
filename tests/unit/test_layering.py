"""Imports go down only, and each foreign library has one doorway."""

import ast
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# From the ground up: a module imports from its own package and from floors below it. Places on one
# floor do not import each other. Every package is named; a module named here stands apart from it.
FLOORS = (
    {"errors", "observe"},
    {"store.runtime"},
    {"store.codec"},
    {"store.protocol"},
    {"store.commits", "store.entries", "store.memory", "store.redis"},
    {"store.dogpile"},
    {"store.store"},
    {"store.backend"},
    {"declare.kinds", "declare.statement"},
    {"declare.policies"},
    {"declare.queries"},
    {"declare"},
    {"orm.database", "orm.sql"},
    {"orm.mapping"},
    {"orm.interest"},
    {"orm.tracking"},
    {"orm.reading"},
    {"geo"},
    {"orm.attachment", "orm.warming"},
    {"orm.invalidation"},
    {"inspection"},
    {"cache"},
    {"responses", "testing", "contrib"},
    {"cli.errors", "cli.terminal"},
    {"cli.application", "cli.key_statistics"},
    {"cli.doctor", "cli.completion", "cli.composition"},
    {"cli"},
)

# The only files that a library may be imported in.
DOORWAYS = {
    "redis": ("cachedorm/store/redis/client.py", "cachedorm/store/redis/server.py"),
    "hiredis": ("cachedorm/store/redis/connection.py",),
    "dogpile": ("cachedorm/store/",),
    "msgspec": ("cachedorm/store/codec/",),
    "sqlglot": ("cachedorm/orm/sql/writes.py",),
    "pytest": ("cachedorm/testing/plugin.py",),
    "prometheus_client": ("cachedorm/contrib/prometheus.py",),
    "opentelemetry": ("cachedorm/contrib/opentelemetry.py",),
    "pickle": (),
    "marshal": (),
}

OUTSIDE = {"models", "migrations", "examples", "tests", "benchmarks"}

# What an application imports beside the names of `cachedorm` itself.
PUBLIC = {"errors", "observe", "testing", "contrib", "geo", "responses"}

# A package with more modules has more than one idea.
MODULES_MAX = 15

SHAPELESS = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}


@dataclass(frozen=True, slots=True)
class Import:
    """One import as it stands in a file. module: absolute; names: what is taken from it."""

    path: str
    line: int
    module: str
    names: tuple[str, ...]

    @property
    def place(self) -> str:
        """file:line"""
        return f"{self.path}:{self.line}"

    @property
    def targets(self) -> tuple[str, ...]:
        """Every module this may mean: `from cachedorm import errors` is cachedorm.errors."""
        return (self.module, *(f"{self.module}.{name}" for name in self.names))


def imports_in(path: str, source: str) -> Iterator[Import]:
    """Every import of a file, those under TYPE_CHECKING and inside functions too."""
    package = path.removesuffix(".py").removesuffix("/__init__").split("/")
    if not path.endswith("/__init__.py"):
        package = package[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name, ())
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield Import(path, node.lineno, module, tuple(alias.name for alias in node.names))


PLACES = {place: number for number, places in enumerate(FLOORS) for place in places}


def place_of(module: str) -> str | None:
    """The place in FLOORS that a module of the package stands in; None for others."""
    _, _, inside = module.partition(".")
    if not module.startswith("cachedorm.") or not inside:
        return None
    parts = inside.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in PLACES), None)


def upward(found: Import) -> Iterator[str]:
    """Imports inside the package that do not go down."""
    if not found.path.startswith("cachedorm/") or found.path == "cachedorm/__init__.py":
        return
    module = module_of(found.path)
    own = place_of(module)
    if own is None:
        yield f"{found.place}: {module} is on no floor; give it one in FLOORS"
        return
    for target in found.targets:
        place = place_of(target)
        if place is not None and place != own and PLACES[place] >= PLACES[own]:
            yield f"{found.place}: {own} imports {target}; imports go down only"
            return
    if found.module == "cachedorm" and all(place_of(t) is None for t in found.targets):
        yield f"{found.place}: import from the module itself, not through the package's front door"


def module_of(path: str) -> str:
    """The module's name, from the file's path."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def beside_the_doorway(found: Import) -> Iterator[str]:
    """Foreign libraries imported elsewhere than in their doorway."""
    library = found.module.split(".")[0]
    if not found.path.startswith("cachedorm/") or library not in DOORWAYS:
        return
    allowed = DOORWAYS[library]
    if not any(found.path == place or found.path.startswith(place) for place in allowed):
        where = " or ".join(allowed) if allowed else "nowhere"
        yield f"{found.place}: {library} is imported in {where} only"


def orm_in_the_store(found: Import) -> Iterator[str]:
    """The store knows nothing of SQLAlchemy but its greenlet switch."""
    if not found.path.startswith("cachedorm/store/"):
        return
    library, *rest = found.module.split(".")
    if library == "geoalchemy2" and found.path != "cachedorm/store/codec/columns.py":
        yield f"{found.place}: geometry is known to store/codec/ only"
    if library == "sqlalchemy" and rest[:2] != ["util", "concurrency"]:
        yield f"{found.place}: store imports {found.module}, not only sqlalchemy.util"


def application_in_the_library(found: Import) -> Iterator[str]:
    """cachedorm does not know who uses it."""
    if found.path.startswith("cachedorm/") and found.module.split(".")[0] in OUTSIDE:
        yield f"{found.place}: cachedorm never imports {found.module}"


def geo_in_the_library(found: Import) -> Iterator[str]:
    """Applications import cachedorm.geo; the rest of the library asks each query for its plan."""
    if not found.path.startswith("cachedorm/") or found.path.startswith("cachedorm/geo/"):
        return
    if any(target.split(".")[:2] == ["cachedorm", "geo"] for target in found.targets):
        yield f"{found.place}: cachedorm.geo is imported by applications only"


def private_names_in_the_application(found: Import) -> Iterator[str]:
    """models/ and examples/ use what every user may use."""
    if not found.path.startswith(("models/", "examples/", "migrations/")):
        return
    library, _, inside = found.module.partition(".")
    if library != "cachedorm":
        return
    public = not inside or any(inside == name or inside.startswith(name + ".") for name in PUBLIC)
    if not public or any(name.startswith("_") for name in found.names):
        yield f"{found.place}: {found.module} is not public; take it from cachedorm itself"


RULES = (
    upward,
    beside_the_doorway,
    orm_in_the_store,
    application_in_the_library,
    geo_in_the_library,
    private_names_in_the_application,
)


def source_files() -> Iterator[tuple[str, str]]:
    """Every file of ours, as (path from the root, source)."""
    for folder in ("cachedorm", "models", "examples", "migrations"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.__name__))
def test_the_rule_holds(rule: Callable[[Import], Iterator[str]]) -> None:
    """No import of any file breaks it."""
    broken = [
        text
        for path, source in source_files()
        for found in imports_in(path, source)
        for text in rule(found)
    ]
    assert not broken, "\n".join(["", *broken])


def test_files_are_named_by_their_idea() -> None:
    """A file called utils has no idea."""
    assert [path for path, _ in source_files() if Path(path).stem in SHAPELESS] == []


def library() -> dict[str, str]:
    """The library's modules by their path, with their sources."""
    return {path: text for path, text in source_files() if path.startswith("cachedorm/")}


def unnamed(files: Mapping[str, str]) -> list[str]:
    """Modules that only the floor of an outer package covers."""
    found = []
    for path, source in files.items():
        module = module_of(path).removeprefix("cachedorm.")
        package = module if path.endswith("/__init__.py") else module.rpartition(".")[0]
        empty = path.endswith("/__init__.py") and not any(imports_in(path, source))
        if path.count("/") > 1 and not empty and not {module, package} & PLACES.keys():
            found.append(path)
    return found


def test_every_package_has_its_floor() -> None:
    """A new package is given a floor; no name in FLOORS is left over from an old one."""
    files = library()
    assert unnamed(files) == []
    modules = {module_of(path).removeprefix("cachedorm.") for path in files}
    assert PLACES.keys() - modules == set()


def test_a_package_without_a_floor_is_named() -> None:
    """The floor of the package around it is not enough."""
    files = {"cachedorm/cli/new/idea.py": "", "cachedorm/cli/new/__init__.py": ""}
    assert unnamed(files) == ["cachedorm/cli/new/idea.py"]


def test_a_package_has_a_dozen_modules_or_so() -> None:
    """A larger one is two packages."""
    sizes = Counter(
        path.rpartition("/")[0] for path in library() if not path.endswith("/__init__.py")
    )
    assert {package: size for package, size in sizes.items() if size > MODULES_MAX} == {}


def meant(found: Import, modules: set[str]) -> Iterator[str]:
    """The modules that an import names: `from package import module` is the module alone."""
    inner = [f"{found.module}.{name}" for name in found.names]
    for target in inner or [found.module]:
        named = target if target in modules else found.module
        if named in modules:
            yield named


def import_graph(files: Mapping[str, str]) -> dict[str, set[str]]:
    """Which module imports which others, under TYPE_CHECKING and inside functions included."""
    modules = {module_of(path) for path in files}
    graph: dict[str, set[str]] = {}
    for path, source in files.items():
        graph[module_of(path)] = {
            target for found in imports_in(path, source) for target in meant(found, modules)
        }
    return graph


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one module (Kosaraju), sorted."""
    backwards: dict[str, set[str]] = {node: set() for node in graph}
    for node, targets in graph.items():
        for target in targets:
            backwards[target].add(node)

    def visit(node: str, edges: Mapping[str, set[str]], into: list[str], seen: set[str]) -> None:
        seen.add(node)
        for target in sorted(edges[node] - seen):
            if target not in seen:
                visit(target, edges, into, seen)
        into.append(node)

    finished: list[str] = []
    seen: set[str] = set()
    for node in sorted(graph):
        if node not in seen:
            visit(node, graph, finished, seen)
    found: list[list[str]] = []
    seen = set()
    for node in reversed(finished):
        if node not in seen:
            component: list[str] = []
            visit(node, backwards, component, seen)
            found.append(sorted(component))
    return sorted(component for component in found if len(component) > 1)


def test_no_modules_import_each_other() -> None:
    """No circle of imports, whatever way round and wherever in the file they stand."""
    assert circles(import_graph(library())) == []


def test_circles_are_found() -> None:
    """Two of them, one by way of TYPE_CHECKING and one inside a function; not the chain to them."""
    checking = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from cachedorm import a"
    files = {
        "cachedorm/a.py": "from cachedorm.b import x",
        "cachedorm/b.py": "import cachedorm.c",
        "cachedorm/c.py": checking,
        "cachedorm/d.py": "from cachedorm.p import e",
        "cachedorm/p/__init__.py": "from cachedorm.d import f",
        "cachedorm/p/e.py": "def f():\n    from .. import d",
        "cachedorm/last.py": "from cachedorm import a, d\nimport os",
    }
    graph = import_graph(files)
    assert graph["cachedorm.d"] == {"cachedorm.p.e"}
    assert graph["cachedorm.last"] == {"cachedorm.a", "cachedorm.d"}
    assert circles(graph) == [
        ["cachedorm.a", "cachedorm.b", "cachedorm.c"],
        ["cachedorm.d", "cachedorm.p.e"],
    ]


@pytest.mark.parametrize(
    ("path", "source", "says"),
    [
        (
            "cachedorm/store/protocol/keys.py",
            "import cachedorm.orm.reading.entities",
            "imports go down only",
        ),
        (
            "cachedorm/orm/reading/entities.py",
            "from cachedorm import responses",
            "imports go down only",
        ),
        ("cachedorm/orm/reading/entities.py", "from ...cache import Cache", "imports go down only"),
        ("cachedorm/orm/reading/entities.py", "from cachedorm import Cache", "front door"),
        ("cachedorm/tools.py", "import os", "on no floor"),
        (
            "cachedorm/orm/reading/entities.py",
            "def f():\n    import redis.asyncio",
            "redis is imported in",
        ),
        ("cachedorm/store/dogpile/region.py", "import msgspec", "msgspec is imported in"),
        ("cachedorm/store/codec/columns.py", "import pickle", "nowhere"),
        ("cachedorm/orm/reading/entities.py", "from dogpile.cache import CacheRegion", "dogpile"),
        ("cachedorm/observe.py", "import prometheus_client", "contrib/prometheus.py only"),
        (
            "cachedorm/store/redis/client.py",
            "from sqlalchemy.orm import Session",
            "not only sqlalchemy.util",
        ),
        ("cachedorm/store/protocol/keys.py", "from geoalchemy2 import WKBElement", "codec/ only"),
        ("cachedorm/testing/served.py", "import pytest", "plugin.py only"),
        ("cachedorm/cache.py", "from models.my import User", "never imports models.my"),
        ("cachedorm/cache.py", "from cachedorm.geo import Nearby", "by applications only"),
        ("models/my.py", "from cachedorm.declare import Cached", "is not public"),
        ("examples/recycling/demo.py", "from cachedorm import _secret", "is not public"),
    ],
)
def test_a_broken_rule_is_named(path: str, source: str, says: str) -> None:
    """Each rule sees the import that breaks it, and says so."""
    texts = [text for found in imports_in(path, source) for rule in RULES for text in rule(found)]
    assert len(texts) == 1
    assert says in texts[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("cachedorm/__init__.py", "from cachedorm.cache import Cache"),
        (
            "cachedorm/cache.py",
            "from cachedorm import errors\nfrom cachedorm.orm.reading.entities import x",
        ),
        (
            "cachedorm/store/dogpile/region.py",
            "from cachedorm.store.redis.client import Wire\nimport dogpile.cache",
        ),
        (
            "cachedorm/store/redis/client.py",
            "import redis\nfrom sqlalchemy.util.concurrency import x",
        ),
        ("models/my.py", "from cachedorm import Cached\nfrom models.base import Base"),
        ("examples/recycling/app.py", "from cachedorm.responses import CacheMiddleware"),
    ],
)
def test_a_good_import_passes(path: str, source: str) -> None:
    """What the layers allow is not reported."""
    assert not [t for found in imports_in(path, source) for rule in RULES for t in rule(found)]
