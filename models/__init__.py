"""The recycling application's domain: eight areas, each with its tables and its Redis database."""

from models.auth import Revocation
from models.base import Base
from models.character import (
    Character,
    Mission,
    MissionStatus,
    calculate_exp_required,
    character_state,
    missions_of,
)
from models.chat import Conversation, chat_history
from models.info import Guide, all_categories, search_guides
from models.location import RecycleCenter, nearby_centers
from models.my import Activity, User, recent_activities
from models.regions import API, AUTH, CHARACTER, CHAT, INFO, LOCATION, MY, REGIONS, SCAN
from models.scan import ScanResult, ScanStatus, scan_history
from models.warm import POPULAR_PLACES

__all__ = [
    "API",
    "AUTH",
    "CHARACTER",
    "CHAT",
    "INFO",
    "LOCATION",
    "MY",
    "POPULAR_PLACES",
    "REGIONS",
    "SCAN",
    "Activity",
    "Base",
    "Character",
    "Conversation",
    "Guide",
    "Mission",
    "MissionStatus",
    "RecycleCenter",
    "Revocation",
    "ScanResult",
    "ScanStatus",
    "User",
    "all_categories",
    "calculate_exp_required",
    "character_state",
    "chat_history",
    "missions_of",
    "nearby_centers",
    "recent_activities",
    "scan_history",
    "search_guides",
]
