"""The declarative base of the recycling application: names, types, regions."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar
from uuid import uuid4

from sqlalchemy import DateTime, Enum, MetaData, String, Text, func
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import DeclarativeBase, mapped_column

from cachedorm import Regions
from models.regions import REGIONS

# A migration can only drop what it can name, so every constraint is named after its columns.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

Identifier = Annotated[str, mapped_column(String(64))]
"""Identifiers are strings throughout; 64 characters hold a UUID, a hash, or a service's own."""

Moment = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]
"""An aware timestamp, the database's own clock unless the caller gives one."""


class Base(AsyncAttrs, DeclarativeBase):
    """What every table of the application shares.

    `AsyncAttrs` lets async code follow a relationship: `await activity.awaitable_attrs.user`.
    """

    metadata = MetaData(naming_convention=NAMING)
    # No naive timestamp anywhere: two services in two zones must agree on when a token expires.
    type_annotation_map: ClassVar = {datetime: DateTime(timezone=True), str: Text()}
    __cache_regions__: ClassVar[Regions] = REGIONS


def new_id() -> str:
    """Return an identifier that no other row has."""
    return uuid4().hex


def one_of(choices: type[StrEnum], name: str) -> Enum:
    """Return a text column's type that holds one of `choices`, guarded by a CHECK constraint.

    Text, not a native enum: adding a choice is then an ordinary migration, inside a transaction.
    """
    return Enum(
        choices,
        name=name,
        native_enum=False,
        length=16,
        create_constraint=True,
        values_callable=lambda members: [member.value for member in members],
    )
