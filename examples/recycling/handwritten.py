"""The cache-aside everybody writes, as the rival of the race: correct to look at, and stale.

GET, else SELECT and SETEX; UPDATE, COMMIT, then DEL. Nothing stands between the COMMIT and the DEL,
so a reader that selected before the COMMIT stores the old row after the DEL, for a whole hour.
"""

import json

import redis
from sqlalchemy.orm import Session, sessionmaker

from models import MY, User

HOUR_S = 3600


class HandwrittenProfiles:
    """Profiles cached by hand, under the same key and lifetime as the model's own policy."""

    def __init__(self, sessions: sessionmaker[Session], redis_url: str) -> None:
        self.sessions = sessions
        self.redis = redis.Redis.from_url(redis_url, db=MY.db, decode_responses=True)
        self.hits = 0

    def version(self, user_id: str) -> int:
        """Return the version that the profile shows, from Redis if it is there."""
        key = f"user:profile:{user_id}"
        cached = self.redis.get(key)
        if cached is not None:
            self.hits += 1
            return int(json.loads(str(cached))["nickname"])
        with self.sessions() as session:
            user = session.get_one(User, user_id)
            nickname, district = user.nickname, user.district
        profile = {"user_id": user_id, "nickname": nickname, "district": district}
        self.redis.setex(key, HOUR_S, json.dumps(profile, ensure_ascii=False))
        return int(nickname)

    def advance(self, user_id: str) -> int:
        """Write the next version, then delete what is cached of the profile; return the version."""
        with self.sessions() as session:
            user = session.get_one(User, user_id, with_for_update=True)
            version = int(user.nickname) + 1
            user.nickname = str(version)
            session.commit()
        self.redis.delete(f"user:profile:{user_id}")
        return version

    def close(self) -> None:
        """Give the connections back."""
        self.redis.close()
