"""The nearby query: rows within a radius of a point, nearest first, exact."""

from cachedorm.geo.nearby import Nearby

__all__ = ["Nearby"]
