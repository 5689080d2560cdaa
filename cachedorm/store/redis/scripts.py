"""The Lua scripts of the protocol, each named by the SHA-1 of its source."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources

from cachedorm.store.redis.connection import Word


@dataclass(frozen=True, slots=True)
class Script:
    """One file of ``lua/``. Its header describes keys, arguments and replies."""

    name: str
    source: bytes = field(repr=False)
    sha: bytes = field(repr=False)

    @classmethod
    def named(cls, name: str) -> Script:
        source = (
            resources.files("cachedorm.store.redis").joinpath("lua", f"{name}.lua").read_bytes()
        )
        # Redis' own name for a script, not a security measure.
        sha = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()
        return cls(name, source, sha)


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """One run of a script in one Redis database."""

    db: int
    script: Script
    keys: Sequence[str | bytes]
    args: Sequence[Word]

    def by_sha(self) -> tuple[Word, ...]:
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)

    def by_source(self) -> tuple[Word, ...]:
        return ("EVAL", self.script.source, len(self.keys), *self.keys, *self.args)


ACQUIRE = Script.named("acquire")
PUBLISH = Script.named("publish")
RELEASE = Script.named("release")
REFRESH = Script.named("refresh")
REPLACE = Script.named("replace")
INTEND = Script.named("intend")
SETTLE = Script.named("settle")
PUT = Script.named("put")
CLEAR = Script.named("clear")
REGISTER = Script.named("register")
LOOK = Script.named("look")
SURVEY = Script.named("survey")
