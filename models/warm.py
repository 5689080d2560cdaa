"""What is in the cache before anybody asks: at application start, and again every night."""

from cachedorm import WarmSet
from models.info import Guide
from models.location import nearby_centers

# An open list, by name; the document's coordinates.
POPULAR_PLACES = {
    "Seoul City Hall": (37.5665, 126.9780),
    "Gangnam Station": (37.5172, 127.0473),
    "Hongik University": (37.5511, 126.9882),
}
RADIUS_M = 5000

guides = WarmSet("guides", Guide)
popular_places = WarmSet(
    "popular places",
    nearby_centers,
    [{"lat": lat, "lon": lon, "radius_m": RADIUS_M} for lat, lon in POPULAR_PLACES.values()],
)
