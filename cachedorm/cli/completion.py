"""Shell completion of region, model and warm set names, from the declarations.

Completion imports the module that holds the Cache. It calls no function that makes a Cache and
asks no server. If the import fails, nothing is completed.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

from cachedorm.cli.application import location_of
from cachedorm.declare.policies.region import Region
from cachedorm.declare.policies.shape import shapes
from cachedorm.declare.queries.derived import derived_queries
from cachedorm.declare.queries.query import declared_queries
from cachedorm.declare.queries.warmset import declared_warm_sets


def _declare(context: Any) -> bool:
    """Import the declarations; True if that worked."""
    app = context.params.get("app")
    silent = io.StringIO()
    try:
        # The shell would take the application's output for names.
        with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            location_of(app).module()
            from sqlalchemy.orm import configure_mappers

            configure_mappers()
    except Exception:  # noqa: BLE001 - completion cannot report an error
        return False
    return True


def complete_region(ctx: Any, incomplete: str) -> list[str]:
    """The region names that begin with ``incomplete``."""
    if not _declare(ctx):
        return []
    regions: set[Region] = {shape.policy.region for shape in shapes()}
    for shape in shapes():
        regions.update(getattr(shape.owner.class_, "__cache_regions__", ()))
    regions |= {each.region for each in declared_queries()}
    regions |= {each.region for each in derived_queries()}
    return sorted(each.name for each in regions if each.name.startswith(incomplete))


def complete_model(ctx: Any, incomplete: str) -> list[str]:
    """The names of cached classes with a key that begin with ``incomplete``."""
    if not _declare(ctx):
        return []
    names = {shape.owner.class_.__name__ for shape in shapes() if shape.template is not None}
    return sorted(name for name in names if name.startswith(incomplete))


def complete_warm_set(ctx: Any, incomplete: str) -> list[str]:
    """The warm set names that begin with ``incomplete``."""
    if not _declare(ctx):
        return []
    return [each.name for each in declared_warm_sets() if each.name.startswith(incomplete)]
