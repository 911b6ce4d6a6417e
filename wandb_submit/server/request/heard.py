"""When agents, runs and sweeps were last heard of.

Most requests bring nothing but this. So it is kept in memory, and written down once a second for those who read
`heartbeat_at`: should the server die in between, nothing is lost, for silence counts from its next start anyway.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Literal, TypeAlias

from wandb_submit.server.storage.clock import Clock
from wandb_submit.server.storage.transaction import Transaction

Kind: TypeAlias = Literal["agents", "runs", "sweeps"]

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

    def write(self, tx: Transaction) -> None:
        """Writes down what has not been written yet."""
        taken = dict(self._unwritten)
        for kind, update in _UPDATES.items():
            tx.execute_many(update, [(moment, number) for (of, number), moment in taken.items() if of == kind])

        def written() -> None:
            for key, moment in taken.items():
                if self._unwritten.get(key) == moment:
                    del self._unwritten[key]

        tx.after_commit.append(written)

    def __bool__(self) -> bool:
        """Whether there is something to write down."""
        return bool(self._unwritten)
