"""When agents, runs and sweeps were last heard of.

Most requests bring nothing but this. So it is kept in memory, and written down once a second for those who read
`heartbeat_at`: should the server die in between, nothing is lost, for silence counts from its next start anyway.
"""

from __future__ import annotations

import time
from collections.abc import Set
from typing import Literal, TypeAlias

from wandb_submit.server.storage.clock import Clock
from wandb_submit.server.storage.transaction import Transaction

Kind: TypeAlias = Literal["agents", "runs", "sweeps"]

# SQLite reads all of a row to change a little of it, and configs and summaries can be megabytes long. What takes longer
# than this is written down so seldom that it takes this share of the time.
_SLOW_S, _SHARE = 0.005, 0.002

_UPDATES: dict[Kind, str] = {
    "agents": "UPDATE agents SET heartbeat_at = ? WHERE number = ?",
    "runs": "UPDATE runs SET heartbeat_at = ? WHERE id = ?",
    "sweeps": "UPDATE sweeps SET heartbeat_at = ? WHERE number = ?",
}


class Heard:
    """Who was heard of when, by one server process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._steady: dict[tuple[Kind, int], float] = {}
        self._unwritten: dict[tuple[Kind, int], float] = {}
        # Those that take long to write down, and from when on (steady time) that is to be done.
        self._slow: dict[tuple[Kind, int], float] = {}

    def of(self, kind: Kind, number: int, *, written: bool = False) -> None:
        """Notes that one of them (by the key of its table) has just been heard of.

        Args:
            kind: its table.
            number: its key.
            written: the request itself has written it down.
        """
        self._steady[kind, number] = self._clock.steady()
        if written:
            self._unwritten.pop((kind, number), None)
        else:
            self._unwritten[kind, number] = self._clock.now()

    def silence_s(self, kind: Kind, number: int) -> float:
        """For how long one of them has not been heard of.

        Of whom this process has never heard, the silence begins with the first time that it is asked for: before
        the server's start nobody could be heard.
        """
        steady = self._clock.steady()
        return steady - self._steady.setdefault((kind, number), steady)

    def forget_runs_but(self, live: Set[int]) -> None:
        """Forgets the runs that are over: should one begin again, its silence begins anew."""
        over = [key for key in self._steady if key[0] == "runs" and key[1] not in live]
        for key in over:
            del self._steady[key]
            self._slow.pop(key, None)

    def is_due(self) -> bool:
        """Whether there is something to write down."""
        return any(map(self._is_due, self._unwritten))

    def takes_long(self) -> bool:
        """Whether writing that down takes long."""
        return any(key in self._slow and self._is_due(key) for key in self._unwritten)

    def write(self, tx: Transaction) -> None:
        """Writes down what is due."""
        taken = {key: moment for key, moment in dict(self._unwritten).items() if self._is_due(key)}
        for (kind, number), moment in taken.items():
            began = time.perf_counter()
            tx.execute(_UPDATES[kind], (moment, number))
            took = time.perf_counter() - began
            if took > _SLOW_S:
                self._slow[kind, number] = self._clock.steady() + took / _SHARE

        def written() -> None:
            for key, moment in taken.items():
                if self._unwritten.get(key) == moment:
                    del self._unwritten[key]

        tx.after_commit.append(written)

    def _is_due(self, key: tuple[Kind, int]) -> bool:
        return self._slow.get(key, 0.0) <= self._clock.steady()
