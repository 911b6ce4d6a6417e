"""What a request does to the database."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

Parameters: TypeAlias = Sequence[object] | Mapping[str, object]


class TakesLongError(Exception):
    """Work turned out to take long: it is taken back, and begun again where it holds up nobody."""


class Transaction:
    """What a request does to the database: all of it or nothing.

    Attributes:
        after_commit: what is to be called, on the event loop, once all of it is there.
        is_read: whether all that it sees is committed, and it can add nothing to that.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        may_take_long: bool = True,
        until: float | None = None,
        is_read: bool = False,
    ) -> None:
        """Wraps an open transaction.

        Args:
            connection: that has begun it.
            may_take_long: whether nobody waits meanwhile.
            until: from when on, by the thread's processor time, its work has taken long.
            is_read: whether the connection cannot write.
        """
        self.is_read = is_read
        self._connection = connection
        self._may_take_long = may_take_long
        self._until = until
        self.after_commit: list[Callable[[], None]] = []

    def take_long(self) -> None:
        """To be called before work of more than a few milliseconds: the event loop is not the place for it."""
        if not self._may_take_long:
            raise TakesLongError

    def _run(self, sql: str, parameters: Parameters) -> sqlite3.Cursor:
        if self._until is not None and time.thread_time() > self._until:
            raise TakesLongError
        return self._connection.execute(sql, parameters)

    def one(self, sql: str, parameters: Parameters = ()) -> sqlite3.Row | None:
        """The first row, if any."""
        row: sqlite3.Row | None = self._run(sql, parameters).fetchone()
        return row

    def rows(self, sql: str, parameters: Parameters = ()) -> list[sqlite3.Row]:
        """All rows."""
        return self._run(sql, parameters).fetchall()

    def each(self, sql: str, parameters: Parameters = ()) -> Iterator[sqlite3.Row]:
        """All rows, one at a time: for those that are too many, or too long, to hold them all."""
        yield from self._run(sql, parameters)

    def integer(self, sql: str, parameters: Parameters = ()) -> int:
        """The first column of the first row as a number; no row and null count as 0."""
        row = self.one(sql, parameters)
        return 0 if row is None else int(row[0] or 0)

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Changes rows; returns how many."""
        return self._run(sql, parameters).rowcount

    def execute_many(self, sql: str, parameters: Iterable[Parameters]) -> None:
        """Changes rows, once per set of parameters."""
        self._connection.executemany(sql, parameters)

    def insert(self, sql: str, parameters: Parameters = ()) -> int:
        """Adds a row; returns its key."""
        return int(self._run(sql, parameters).lastrowid or 0)
