"""The effect of a SQL text: the relations it writes and what it does to the session."""

from dataclasses import dataclass
from typing import Final, Literal

Ending = Literal["commit", "rollback", "prepare", "commit prepared", "rollback prepared", "perhaps"]


@dataclass(frozen=True, slots=True)
class RelationName:
    """A relation name as a statement spells it, folded as the database folds it.

    ``resolve`` finds the tables that it may stand for.
    """

    schema: str | None
    name: str


NO_NAMES: Final[frozenset[RelationName]] = frozenset()


@dataclass(frozen=True, slots=True)
class Effect:
    """What one text may change.

    ``writes`` are the relations that it inserts into, updates, deletes from or truncates. The
    other sets are parts of it and say which foreign keys act. ``everything`` stands for every
    followed table of the engine. If ``opaque``, later reads of this transaction bypass the cache:
    the text wrote, or it may have changed what they see. ``lingers``: the changed session state
    outlives the transaction. ``begins``: the text leaves a transaction open, which matters under
    AUTOCOMMIT. ``ends_transaction`` is "perhaps" if the text could not be read and may end the
    transaction: settle, and keep what was touched as well.
    """

    writes: frozenset[RelationName] = NO_NAMES
    updates: frozenset[RelationName] = NO_NAMES
    deletes: frozenset[RelationName] = NO_NAMES
    truncates_cascade: frozenset[RelationName] = NO_NAMES
    everything: bool = False
    opaque: bool = False
    lingers: bool = False
    begins: bool = False
    ends_transaction: Ending | None = None

    @property
    def harmless(self) -> bool:
        """Whether the text writes nothing, affects no later read and ends no transaction."""
        return self == READ

    def __or__(self, other: "Effect") -> "Effect":
        """Combine two effects, this one first."""
        return Effect(
            self.writes | other.writes,
            self.updates | other.updates,
            self.deletes | other.deletes,
            self.truncates_cascade | other.truncates_cascade,
            self.everything or other.everything,
            self.opaque or other.opaque,
            self.lingers or other.lingers,
            other.begins or (self.begins and other.ends_transaction in _NO_END),
            max(self.ends_transaction, other.ends_transaction, key=_GRAVITY.index),
        )


# A text may end several transactions; the ending that shows its rows to others weighs most.
_GRAVITY: Final[tuple[Ending | None, ...]] = (
    None,
    "rollback",
    "rollback prepared",
    "prepare",
    "perhaps",
    "commit prepared",
    "commit",
)

_NO_END: Final[tuple[Ending | None, ...]] = (None, "perhaps")

READ: Final = Effect()
UNKNOWN: Final = Effect(everything=True, opaque=True)
OPAQUE: Final = Effect(opaque=True)
SETTING: Final = Effect(opaque=True, lingers=True)
