"""The nearby query: rows within a radius of a point, nearest first, exact."""
