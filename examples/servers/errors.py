"""What goes wrong between asking for a server and having one."""


class ServersNotFound(RuntimeError):
    """No way led to a server. The text names every way, and why it was not taken."""


class WayClosed(Exception):
    """This way leads to no server here; the text says why, and the next way is tried."""


class NoPostGIS(WayClosed):
    """A PostgreSQL answers, but has no PostGIS to offer."""


class NoBinary(WayClosed):
    """This machine lacks a server's program, and it may not or cannot be installed."""
