"""Lists of runs that clients read page by page, kept in memory in an order that no index has.

To order runs by a value in their summaries, all of those have to be read. So the list that a page is taken from is kept
for the pages to come, and brought up to date before each of them: only the runs that have changed since are read again.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wandb_submit.server.storage.transaction import Transaction

if TYPE_CHECKING:  # it knows a run's states, which know the server that has these lists
    from wandb_submit.server.runs.orders import Order

# So many lists are kept, with so many runs in all, each until nobody has asked for so long.
_MAX_LISTS = 8
_MAX_RUNS = 300_000
_IDLE_S = 120.0
# More runs than these are not read beside others' short reads.
_MANY = 1000
# Times that no number of `run_changes` tells of while a run is under way.
_VOLATILE = "runs.heartbeat_at"


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """Which runs are in a list, as SQL with its parameters.

    Attributes:
        narrowed: the part that an index is for.
        rest: the filter.
    """

    narrowed: str
    rest: str
    parameters: tuple[object, ...]

    @property
    def sql(self) -> str:
        """All of it."""
        return f"{self.narrowed} AND ({self.rest})"

    @property
    def is_of_project(self) -> bool:
        """Whether these are all runs of a project, which an index has in the order of their age."""
        return (self.narrowed, self.rest) == ("runs.project = ?", "1")

    def is_long(self, tx: Transaction) -> bool:
        """Whether there are many runs to be looked at."""
        some = f"SELECT 1 FROM runs WHERE {self.narrowed} LIMIT {_MANY}"  # noqa: S608 - no client's text in it
        return tx.integer(f"SELECT COUNT(*) FROM ({some})", self.parameters[: self.narrowed.count("?")]) == _MANY  # noqa: S608


@dataclass(kw_only=True, slots=True)
class _List:
    """One list: a table in memory with a run's keys in each row.

    Attributes:
        number: of the last change of runs that it knows; None before it has been read.
        total: how many runs there are.
        asked_at: when it was last used.
    """

    condition: Condition
    order: Order
    number: int | None = None
    total: int = 0
    asked_at: float = 0.0
    table: sqlite3.Connection = field(
        default_factory=lambda: sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    )
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __del__(self) -> None:
        self.table.close()

    def page(self, cursor: str | None, size: int) -> list[tuple[object, ...]]:
        """The keys of so many runs after a cursor."""
        rows: list[tuple[object, ...]] = []
        for where, parameters in self.order.ranges(cursor):
            rows += self.table.execute(
                f"SELECT * FROM list WHERE {where} ORDER BY {self.order.sql} LIMIT ?",  # noqa: S608 - our own words
                (*parameters, size - len(rows)),
            )
            if len(rows) == size:
                break
        return rows

    def bring_up_to_date(self, tx: Transaction) -> None:
        """Reads what has changed, or everything; what is interrupted leaves it as it was."""
        newest = tx.integer("SELECT MAX(number) FROM run_changes")
        if self.number is not None and newest < self.number:
            # Another reader knew more than this one's transaction.
            return
        self.table.execute("BEGIN")
        try:
            if self.number is None:
                total = self._read_all(tx)
            else:
                total = self.total + self._read_changed(tx, self._changed(tx, self.number))
            self.table.execute("COMMIT")
        except BaseException:
            self.table.execute("ROLLBACK")
            raise
        self.number, self.total = newest, total

    def _read_all(self, tx: Transaction) -> int:
        names = [f"key{number}" for number in range(len(self.order.keys))]
        # The last key is the run's number.
        self.table.execute(f"CREATE TABLE list ({', '.join(names)} INTEGER PRIMARY KEY)")
        added = self._add(
            tx.each(
                f"SELECT {self.order.selection} FROM runs WHERE {self.condition.sql}",  # noqa: S608 - no client's text
                (*self.order.parameters, *self.condition.parameters),
            )
        )
        self.table.execute(f"CREATE INDEX ordered ON list ({self.order.sql})")
        return added

    def _changed(self, tx: Transaction, since: int) -> list[int]:
        changed = {row["run"] for row in tx.rows("SELECT run FROM run_changes WHERE number > ?", (since,))}
        if _VOLATILE in self.condition.sql + self.order.selection:
            changed.update(row["id"] for row in tx.rows("SELECT id FROM runs WHERE state IN ('pending', 'running')"))
        return list(changed)

    def _read_changed(self, tx: Transaction, runs: Sequence[int]) -> int:
        """Puts runs where they belong now; returns how many more there are."""
        last = f"key{len(self.order.keys) - 1}"
        gone = self.table.executemany(f"DELETE FROM list WHERE {last} = ?", [(run,) for run in runs]).rowcount  # noqa: S608
        added = self._add(
            tx.each(
                f"SELECT {self.order.selection} FROM json_each(?) AS changed"  # noqa: S608 - no client's text in it
                f" CROSS JOIN runs ON runs.id = changed.value WHERE {self.condition.sql}",
                (*self.order.parameters, json.dumps(runs), *self.condition.parameters),
            )
        )
        return added - max(0, gone)

    def _add(self, rows: Iterable[sqlite3.Row]) -> int:
        marks = ", ".join("?" * len(self.order.keys))
        return max(0, self.table.executemany(f"INSERT INTO list VALUES ({marks})", map(tuple, rows)).rowcount)  # noqa: S608


class KeptLists:
    """The lists that were last asked for. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._lists: OrderedDict[tuple[Condition, Order], _List] = OrderedDict()
        self._lock = threading.Lock()

    def page(
        self, tx: Transaction, condition: Condition, order: Order, cursor: str | None, size: int
    ) -> list[tuple[object, ...]]:
        """The keys of so many runs after a cursor, as they are now."""
        key = condition, order
        with self._lock:
            kept = self._lists.get(key)
            if kept is None:
                kept = self._lists[key] = _List(condition=condition, order=order, asked_at=time.monotonic())
            self._lists.move_to_end(key)
        with self._up_to_date(tx, kept):
            rows = kept.page(cursor, size)
        if kept.total <= size or kept.total > _MAX_RUNS:
            # There is no other page, or it cannot be kept for that.
            with self._lock:
                self._lists.pop(key, None)
        self.tidy()
        return rows

    def count(self, tx: Transaction, condition: Condition) -> int | None:
        """How many runs there are now, if a list of them is kept."""
        with self._lock:
            found = [kept for (known, _), kept in self._lists.items() if known == condition and kept.number is not None]
        for kept in found:
            with self._up_to_date(tx, kept):
                return kept.total
        return None

    def tidy(self) -> None:
        """Forgets lists that nobody asks for any more, or that are too many."""
        now = time.monotonic()
        with self._lock:
            for key in [key for key, kept in self._lists.items() if kept.asked_at < now - _IDLE_S]:
                del self._lists[key]
            while len(self._lists) > _MAX_LISTS or sum(kept.total for kept in self._lists.values()) > _MAX_RUNS:
                self._lists.popitem(last=False)

    @contextmanager
    def _up_to_date(self, tx: Transaction, kept: _List) -> Iterator[None]:
        """The list as it is now; nobody else touches it until the block ends."""
        kept.asked_at = time.monotonic()
        if not kept.lock.acquire(blocking=False):
            # Somebody reads all of it at this moment.
            tx.take_long()
            kept.lock.acquire()
        try:
            if kept.number is None and kept.condition.is_long(tx):
                tx.take_long()
            kept.bring_up_to_date(tx)
            yield
        finally:
            kept.lock.release()
