"""The map of Redis databases: one region per domain, with its lifetime.

Numbers and lifetimes are known to dashboards and to whoever types `redis-cli -n`: they stay.
Databases 8 and 9 are filled by other libraries, 10 to 15 are kept free: a region that asks for one
of them is refused.
"""

from datetime import timedelta

from cachedorm import Region, Regions

# A revocation lives until its token expires (see its policy), "not revoked" for 5 s. Redis may drop
# either: the table is the truth, so a lost entry costs a query and lets nobody in. None of these
# regions is evictable=False; what must not be dropped (8 and 9) belongs on a Redis of its own.
AUTH = Region("auth", db=0, ttl=timedelta(hours=24), negative_ttl=5)
# Responses of all services; a route may state a lifetime of its own.
API = Region("api", db=1, ttl=timedelta(minutes=1))
MY = Region("my", db=2, ttl=timedelta(hours=1))
CHARACTER = Region("character", db=3, ttl=timedelta(minutes=10))
LOCATION = Region("location", db=4, ttl=timedelta(hours=24))
INFO = Region("info", db=5, ttl=timedelta(days=7))
CHAT = Region("chat", db=6, ttl=timedelta(minutes=30))
SCAN = Region("scan", db=7, ttl=timedelta(hours=1))

REGIONS = Regions(
    AUTH,
    API,
    MY,
    CHARACTER,
    LOCATION,
    INFO,
    CHAT,
    SCAN,
    taken={8: "rate limiting (limits)", 9: "Celery results"},
    reserved=range(10, 16),
)
