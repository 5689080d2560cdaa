"""``cachedorm doctor``: examinations of Redis, the database and the declarations."""

from cachedorm.cli.doctor.command import doctor

__all__ = ["doctor"]
