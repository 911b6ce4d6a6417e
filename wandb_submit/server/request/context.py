"""What answers a request gets to see."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from wandb_submit.server.control.settings import Settings
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.request.engine_answers import Proposal
from wandb_submit.server.request.heard import Heard
from wandb_submit.server.request.history_keys import HistoryKeys
from wandb_submit.server.runs.kept_lists import KeptLists
from wandb_submit.server.storage.clock import Clock
from wandb_submit.server.storage.database import Database, Transaction


class Search(Protocol):
    """What requests say to the search in the background; all of it in the event loop."""

    def wake(self, sweep: int) -> None:
        """Says that points of a sweep were handed out, or that one of its runs has ended."""

    def progressed(self, sweep: int, run: int, first_row: int | None) -> None:
        """Says that a run has sent rows of its history, from that number on, or (None) a summary."""

    async def propose(self, config: str, *, sweep: int | None, prior: list[int]) -> tuple[int, Proposal]:
        """Judges a config and draws its first points; returns them with the number of the sweep they are for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerFacts:
    """What stays the same while a server process lives.

    Attributes:
        key: the API key that clients must have.
        process: names this server process among all that ever served the folder.
        clock: what tells the time, here and now.
        heard: who has been heard of when.
        search: what chooses the points of sweeps, in the background.
        history_keys: which metrics runs have logged.
        kept_lists: the lists of runs that clients read page by page.
    """

    settings: Settings
    key: str = field(repr=False)
    process: str
    clock: Clock
    heard: Heard
    search: Search
    history_keys: HistoryKeys = field(default_factory=HistoryKeys)
    kept_lists: KeptLists = field(default_factory=KeptLists)


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """One request's view: its transaction, and the server."""

    tx: Transaction
    server: ServerFacts
    base_url: str

    @property
    def now(self) -> float:
        """The time of day, which is what people are shown."""
        return self.server.clock.now()

    @property
    def steady(self) -> float:
        """The time that durations are measured by: nobody sets it (see `Clock`)."""
        return self.server.clock.steady()


# Answers one root field: a mapping, a list, a scalar or None.
Resolver: TypeAlias = Callable[[Context, Arguments], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Preparing:
    """What there is before a request's transaction begins."""

    database: Database
    server: ServerFacts


# Does the slow part of a root field's work before the transaction, and returns what answers it in there.
Preparation: TypeAlias = Callable[[Preparing, Arguments], Awaitable[Resolver]]
