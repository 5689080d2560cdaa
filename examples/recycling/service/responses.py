"""Which whole responses are kept (Redis database 1): those of the public routes.

They are the same for everybody, so a token that comes along changes nothing. Each is gone with the
commit that changes a row it was made of.
"""

from __future__ import annotations

from typing import Final

from cachedorm.responses import CacheRule

# The first rule that matches counts.
PUBLIC: Final = (
    CacheRule("/centers/nearby", query=("lat", "lon", "radius"), authorization="ignore"),
    CacheRule("/centers/{center_id}", authorization="ignore"),
    CacheRule("/guides/{category}", authorization="ignore"),
    CacheRule("/search", query=("keyword",), authorization="ignore"),
)
