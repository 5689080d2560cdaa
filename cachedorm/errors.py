"""Every error cachedorm raises, in one small tree.

Each class also subclasses the builtin a caller would expect. A message says what was asked,
what was found, and what to do.
"""


class CachedormError(Exception):
    """Root of the tree: catch it to catch everything that cachedorm raises."""


class DeclarationError(CachedormError, ValueError):
    """A model, region or query was declared in a way that cannot work: mend the declaration."""


class ArgumentError(CachedormError, TypeError):
    """A call was made with arguments that cannot be meant: mend the call."""


class ConfigurationError(CachedormError, ValueError):
    """Settings and surroundings do not fit each other (a database number, an engine): mend one."""


class CacheClosedError(CachedormError, RuntimeError):
    """A Cache was used after ``close``: detach its sessions first, or keep it open longer."""


class NotCacheable(CachedormError, TypeError):
    """A value cannot be stored without changing it: leave its column out or convert it first."""


class CacheUnavailable(CachedormError, ConnectionError):
    """Redis did not answer in time. Reads and commits catch it and go on with the database."""
