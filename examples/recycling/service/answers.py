"""What the path operations answer with, and what they take."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from examples.recycling.service.parameters import LINE
from examples.recycling.service.tokens import TOKEN_MAX
from models import ScanStatus

Line = Annotated[str, Field(min_length=1, max_length=64, pattern=LINE)]

# Whatever zone the database speaks in, and whichever process has read and cached the row.
Instant = Annotated[datetime, AfterValidator(lambda moment: moment.astimezone(UTC))]


class Row(BaseModel):
    """An answer made of a row."""

    model_config = ConfigDict(from_attributes=True)


class Done(BaseModel):
    """What was done."""

    message: str


class Profile(Row):
    """A user's own page."""

    user_id: str
    email: str
    nickname: str
    district: str | None
    created_at: Instant


class ProfileChange(BaseModel):
    """What of a profile is to be changed; what is not given stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"minProperties": 1})

    # A factory's default is not in the schema: what is left out has no value here.
    nickname: Line = Field(default_factory=str)
    district: Line | None = Field(default_factory=str)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("give what is to be changed")
        return self

    @property
    def given(self) -> dict[str, str | None]:
        """The values to change, by attribute."""
        return self.model_dump(include=self.model_fields_set)


class CharacterState(BaseModel):
    """A character and how its missions stand."""

    user_id: str
    name: str
    level: int
    exp: int
    exp_required: int
    total_missions: int
    completed_missions: int


class Center(Row):
    """A recycling centre."""

    center_id: str
    name: str
    address: str
    lat: float
    lon: float


class CenterNearby(Center):
    """A recycling centre and how far it is, in metres."""

    distance_m: float


class GuideAnswer(Row):
    """How to recycle one category."""

    category: str
    title: str
    content: str


class ConversationAnswer(Row):
    """A question and its answer."""

    conversation_id: str
    message: str
    response: str
    created_at: Instant


class Scan(Row):
    """A scan task; `result` once it is completed."""

    task_id: str
    status: ScanStatus
    result: dict[str, Any] | None
    created_at: Instant
    finished_at: Instant | None


class RevocationRequest(BaseModel):
    """A token that shall not be accepted any more, and why."""

    model_config = ConfigDict(extra="forbid")

    token: Annotated[
        str,
        Field(max_length=TOKEN_MAX, pattern=r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$"),
    ]
    reason: Annotated[str, Field(max_length=200, pattern=LINE)] = ""


class RevocationAnswer(Row):
    """A revoked token."""

    jti: str
    user_id: str
    reason: str
    revoked_at: Instant
    expires_at: Instant
