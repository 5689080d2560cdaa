"""Sessions that are older than the answer that is being made: nobody saw what they hold read."""

from __future__ import annotations

from sqlalchemy.orm import Session

from cachedorm.store.provenance import Provenance, current


def meet(session: Session) -> None:
    """This session is about to answer: whoever records is told if it may hold older objects."""
    provenance = current()
    if provenance is not None:
        _meet(provenance, session)


def _meet(provenance: Provenance, session: Session) -> None:
    if session in provenance.met:
        return
    # Objects that are in it already are served as they are, and were read by no read of ours.
    if len(session.identity_map):
        provenance.refuse("older session", "a session held objects from before the request")
    provenance.met.add(session)
