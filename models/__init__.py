"""The recycling application's domain: eight areas, each with its tables and its Redis database."""

from models.auth import Revocation
from models.base import Base
from models.character import Character, Mission, MissionStatus, calculate_exp_required
from models.chat import Conversation
from models.info import Guide
from models.location import RecycleCenter
from models.my import Activity, User
from models.regions import API, AUTH, CHARACTER, CHAT, INFO, LOCATION, MY, REGIONS, SCAN
from models.scan import ScanResult, ScanStatus

__all__ = [
    "API",
    "AUTH",
    "CHARACTER",
    "CHAT",
    "INFO",
    "LOCATION",
    "MY",
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
    "calculate_exp_required",
]
