"""Names for the shell to complete: of regions and of models, read off the declarations.

The module that holds the Cache is imported, for that is where the names are; no function that
makes a Cache is called, no server asked. Whatever goes wrong there, nothing is completed.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

from cachedorm.cli.application import place_of
from cachedorm.declare.policies.region import Region
from cachedorm.declare.policies.shape import shapes
from cachedorm.declare.queries.derived import derived_queries
from cachedorm.declare.queries.query import declared_queries
from cachedorm.declare.queries.warmset import declared_warm_sets


def _declare(context: Any) -> bool:
    """Import what is declared; whether that worked."""
    app = context.params.get("app")
    silent = io.StringIO()
    try:
        # A shell would take what the application prints for names.
        with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            place_of(app).module()
            from sqlalchemy.orm import configure_mappers

            configure_mappers()
    except Exception:  # noqa: BLE001 - in the middle of a line there is nobody to tell
        return False
    return True


def complete_region(ctx: Any, incomplete: str) -> list[str]:
    """The names of regions that begin so."""
    if not _declare(ctx):
        return []
    regions: set[Region] = {shape.policy.region for shape in shapes()}
    for shape in shapes():
        regions.update(getattr(shape.owner.class_, "__cache_regions__", ()))
    regions |= {each.region for each in declared_queries()}
    regions |= {each.region for each in derived_queries()}
    return sorted(each.name for each in regions if each.name.startswith(incomplete))


def complete_model(ctx: Any, incomplete: str) -> list[str]:
    """The names of cached classes, with a key, that begin so."""
    if not _declare(ctx):
        return []
    names = {shape.owner.class_.__name__ for shape in shapes() if shape.template is not None}
    return sorted(name for name in names if name.startswith(incomplete))


def complete_warm_set(ctx: Any, incomplete: str) -> list[str]:
    """The names of warm sets that begin so."""
    if not _declare(ctx):
        return []
    return [each.name for each in declared_warm_sets() if each.name.startswith(incomplete)]
