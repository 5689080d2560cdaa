"""An application whose keys run into each other; only ever imported by a process of its own."""

from __future__ import annotations

from sqlalchemy import bindparam, select

from cachedorm import Cache, CachedQuery
from models import MY, Activity

twin = CachedQuery(
    MY,
    key="user:activity:{user_id}",
    statement=select(Activity).where(Activity.user_id == bindparam("user_id")),
)
near = CachedQuery(
    MY, key="user:activity:all", statement=select(Activity).order_by(Activity.activity_id).limit(1)
)
cache = Cache()
