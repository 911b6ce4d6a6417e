"""What answers a request gets to see."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from wandb_submit.server.database import Transaction
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerFacts:
    """What stays the same while a server process lives.

    Attributes:
        key: the API key that clients must have.
        process: names this server process among all that ever served the folder.
        started_at: silence before this moment was ours, not the clients'.
        seed: what the searches are seeded with.
        want_points: tells the background search that an agent waits for a point of a sweep (both by number).
    """

    settings: Settings
    key: str = field(repr=False)
    process: str
    started_at: float
    seed: int
    want_points: Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """One request's view: its transaction, its moment, and the server."""

    tx: Transaction
    server: ServerFacts
    base_url: str
    now: float = field(default_factory=time.time)


# Answers one root field: a mapping, a list, a scalar or None.
Resolver: TypeAlias = Callable[[Context, Arguments], object]
