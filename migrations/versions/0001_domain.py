"""Create the eight domains: a schema each, their tables, constraints and indexes.

Revision: 0001, the first
"""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from alembic import op
from geoalchemy2 import Geography
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | Sequence[str] | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

SCHEMAS = ("auth_db", "my_db", "character_db", "location_db", "info_db", "chat_db", "scan_db")


def identifier(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(64), nullable=False)


def moment(name: str) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)


def belongs_to(table: str, owner: str, column: str) -> sa.ForeignKeyConstraint:
    """A history goes with the row it belongs to."""
    return sa.ForeignKeyConstraint(
        ["user_id"],
        [f"{owner}.{column}"],
        name=f"fk_{table}_user_id_{owner.split('.')[1]}",
        ondelete="CASCADE",
    )


def index_newest(table: str, schema: str, key: str = "id") -> None:
    """Serve `WHERE user_id = ... ORDER BY created_at DESC, key LIMIT n` without a sort."""
    op.create_index(
        f"ix_{table}_newest", table, ["user_id", sa.text("created_at DESC"), key], schema=schema
    )


def upgrade() -> None:
    # PostGIS takes a superuser to create; where an operator did that, nothing happens here.
    op.execute("CREATE EXTENSION IF NOT EXISTS postgis")
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    for schema in SCHEMAS:
        op.execute(sa.schema.CreateSchema(schema))
    create_auth()
    create_my()
    create_character()
    create_location()
    create_info()
    create_chat()
    create_scan()


def create_auth() -> None:
    op.create_table(
        "revocations",
        identifier("jti"),
        identifier("user_id"),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        moment("revoked_at"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("jti", name="pk_revocations"),
        schema="auth_db",
    )
    op.create_index("ix_revocations_user_id", "revocations", ["user_id"], schema="auth_db")
    op.create_index("ix_revocations_expires_at", "revocations", ["expires_at"], schema="auth_db")


def create_my() -> None:
    op.create_table(
        "users",
        identifier("id"),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("nickname", sa.String(64), nullable=False),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("district", sa.String(64)),
        moment("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email", name="uq_users_email"),
        schema="my_db",
    )
    op.create_table(
        "activities",
        identifier("id"),
        identifier("user_id"),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("points", sa.Integer(), server_default="0", nullable=False),
        moment("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_activities"),
        belongs_to("activities", "my_db.users", "id"),
        sa.CheckConstraint("points >= 0", name=op.f("ck_activities_points")),
        schema="my_db",
    )
    index_newest("activities", "my_db")


def create_character() -> None:
    op.create_table(
        "characters",
        identifier("user_id"),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("exp", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("exp_required", sa.BigInteger(), nullable=False),
        moment("created_at"),
        sa.PrimaryKeyConstraint("user_id", name="pk_characters"),
        belongs_to("characters", "my_db.users", "id"),
        sa.CheckConstraint("exp >= 0", name=op.f("ck_characters_exp")),
        sa.CheckConstraint("level >= 1", name=op.f("ck_characters_level")),
        sa.CheckConstraint("exp_required > 0", name=op.f("ck_characters_exp_required")),
        schema="character_db",
    )
    op.create_table(
        "missions",
        identifier("id"),
        identifier("user_id"),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        moment("created_at"),
        sa.Column("completed_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_missions"),
        belongs_to("missions", "character_db.characters", "user_id"),
        sa.CheckConstraint(
            "status IN ('active', 'completed', 'abandoned')", name=op.f("ck_missions_status")
        ),
        schema="character_db",
    )
    index_newest("missions", "character_db")


def create_location() -> None:
    op.create_table(
        "recycle_centers",
        identifier("id"),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("address", sa.String(255), nullable=False),
        sa.Column("lat", sa.Double(), nullable=False),
        sa.Column("lon", sa.Double(), nullable=False),
        sa.Column(
            "location",
            Geography("POINT", srid=4326, spatial_index=False),
            sa.Computed("(ST_SetSRID(ST_MakePoint(lon, lat), 4326))::geography", persisted=True),
            nullable=False,
        ),
        moment("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_recycle_centers"),
        sa.CheckConstraint("lat BETWEEN -90 AND 90", name=op.f("ck_recycle_centers_lat")),
        sa.CheckConstraint("lon BETWEEN -180 AND 180", name=op.f("ck_recycle_centers_lon")),
        schema="location_db",
    )
    op.create_index(
        "ix_recycle_centers_location",
        "recycle_centers",
        ["location"],
        schema="location_db",
        postgresql_using="gist",
    )


def create_info() -> None:
    op.create_table(
        "recycle_guides",
        identifier("id"),
        sa.Column("category", sa.String(64), nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_recycle_guides"),
        sa.UniqueConstraint("category", name="uq_recycle_guides_category"),
        sa.CheckConstraint("category <> ''", name=op.f("ck_recycle_guides_category")),
        schema="info_db",
    )
    for column in ("title", "content"):
        op.create_index(
            f"ix_recycle_guides_{column}_trgm",
            "recycle_guides",
            [sa.func.lower(sa.column(column)).label(column)],
            schema="info_db",
            postgresql_using="gin",
            postgresql_ops={column: "gin_trgm_ops"},
        )


def create_chat() -> None:
    op.create_table(
        "conversations",
        identifier("id"),
        identifier("user_id"),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        moment("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_conversations"),
        belongs_to("conversations", "my_db.users", "id"),
        schema="chat_db",
    )
    index_newest("conversations", "chat_db")


def create_scan() -> None:
    op.create_table(
        "scan_results",
        identifier("task_id"),
        identifier("user_id"),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("result", postgresql.JSONB(none_as_null=True)),
        moment("created_at"),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("task_id", name="pk_scan_results"),
        belongs_to("scan_results", "my_db.users", "id"),
        sa.CheckConstraint(
            "status IN ('pending', 'completed', 'failed')", name=op.f("ck_scan_results_status")
        ),
        schema="scan_db",
    )
    index_newest("scan_results", "scan_db", key="task_id")


def downgrade() -> None:
    """Drop every schema with its tables; the extensions stay, other applications may use them."""
    for table in (
        "scan_db.scan_results",
        "chat_db.conversations",
        "info_db.recycle_guides",
        "location_db.recycle_centers",
        "character_db.missions",
        "character_db.characters",
        "my_db.activities",
        "my_db.users",
        "auth_db.revocations",
    ):
        schema, name = table.split(".")
        op.drop_table(name, schema=schema)
    for schema in reversed(SCHEMAS):
        # Without CASCADE: what somebody else put there is not ours to drop.
        op.execute(sa.schema.DropSchema(schema))
