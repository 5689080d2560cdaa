"""What a text may change, as a value: the relations it names, and what it does to the session."""

from dataclasses import dataclass
from typing import Final, Literal

Ending = Literal["commit", "rollback", "prepare", "commit prepared", "rollback prepared", "perhaps"]


@dataclass(frozen=True, slots=True)
class RelationName:
    """A relation as a statement names it, folded as the database folds it; not yet a table."""

    schema: str | None
    name: str


NO_NAMES: Final[frozenset[RelationName]] = frozenset()


@dataclass(frozen=True, slots=True)
class Effect:
    """What one text may change.

    `writes` is all that is inserted into, updated, deleted from or truncated; the other sets are
    parts of it and say which foreign keys act. `everything`: every followed table
    of the engine. `opaque`: later reads of this transaction bypass (it wrote, or it may have
    changed what they see). `lingers`: a SET that outlives the transaction. `begins`: opens a
    transaction that is open afterwards, which matters under AUTOCOMMIT. `ends_transaction` is
    "perhaps" where the text could not be read and holds such a word: then settle, and keep what
    was touched as well.
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
        """True if nothing is written, no later read is affected, and no transaction ends."""
        return self == READ

    def __or__(self, other: "Effect") -> "Effect":
        """Give the effect of both, one after the other."""
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


# A text may end several transactions; what lets others see its rows weighs most.
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
