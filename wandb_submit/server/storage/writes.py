"""Writes that wait for their turn, and how they are run: several in one transaction, each as if it were alone."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from wandb_submit.server.storage.transaction import TakesLongError, Transaction

_T = TypeVar("_T")


class PendingWrite(Protocol):
    """One request's work on the database, whatever it results in.

    Attributes:
        long: it is not for the event loop's thread.
        error: why there is no result, if that is so.
        again: it is run a second time, because the first time there was no room for it.
    """

    long: bool
    error: BaseException | None
    again: bool

    def run(self, connection: sqlite3.Connection) -> None:
        """Does the work; what it raises means that its changes are to be taken back."""

    def fail(self, error: BaseException) -> None:
        """Keeps why there is no result; none of the changes are in the database."""

    def deliver(self) -> bool:
        """Gives the outcome to whoever waits; returns False if there is none because the work takes long."""


class Write(Generic[_T]):
    """A `PendingWrite`, and the future that gets its outcome."""

    def __init__(self, work: Callable[[Transaction], _T], done: asyncio.Future[_T], *, long: bool) -> None:
        self.long = long
        self.error: BaseException | None = None
        self.again = False
        self.done = done
        self._work = work
        self._tell: Callable[[], None] = lambda: None

    def run(self, connection: sqlite3.Connection) -> None:
        """Does the work; what it raises means that its changes are to be taken back."""
        transaction = Transaction(connection, may_take_long=self.long)
        self.error = None
        result = self._work(transaction)

        def tell() -> None:
            for callback in transaction.after_commit:
                callback()
            self.done.set_result(result)

        self._tell = tell

    def fail(self, error: BaseException) -> None:
        """Keeps why there is no result; none of the changes are in the database."""
        self.error = error

    def deliver(self) -> bool:
        """Gives the outcome to whoever waits; returns False if there is none because the work takes long."""
        if isinstance(self.error, TakesLongError):
            return False
        if self.done.cancelled():
            return True
        try:
            if self.error is None:
                self._tell()
            else:
                self.done.set_exception(self.error)
        except Exception as error:  # noqa: BLE001 - a mistake after the commit, which only this request shall feel
            self.done.set_exception(error)
        return True


def run_alone(connection: sqlite3.Connection, write: PendingWrite) -> None:
    """Runs one write in a transaction of its own; its outcome is in the write, committed."""
    try:
        connection.execute("BEGIN")
        write.run(connection)
        connection.execute("COMMIT")
    except BaseException as error:  # noqa: BLE001 - whoever waits for the write gets it
        write.fail(error)
        _roll_back(connection)


def run_together(connection: sqlite3.Connection, waiting: deque[PendingWrite], *, until: float) -> list[PendingWrite]:
    """Runs the writes that wait, up to the first long one, in one transaction, until a moment (monotonic) is past.

    Each has a savepoint: one that fails takes nothing of another's with it. Should the transaction itself fail (a
    full disk), each is run again alone, and those that need no room succeed.

    Returns:
        The writes that were run; their outcomes are in them, committed.
    """
    taken = [waiting.popleft()]
    if not waiting or waiting[0].long:
        run_alone(connection, taken[0])
        return taken
    try:
        connection.execute("BEGIN")
        _run_within(connection, taken[0])
        while waiting and not waiting[0].long and time.monotonic() < until:
            taken.append(waiting.popleft())
            _run_within(connection, taken[-1])
        connection.execute("COMMIT")
    except sqlite3.Error:
        _roll_back(connection)
        for write in taken:
            run_alone(connection, write)
    return taken


def _run_within(connection: sqlite3.Connection, write: PendingWrite) -> None:
    connection.execute("SAVEPOINT one")
    try:
        write.run(connection)
    except Exception as error:  # noqa: BLE001 - whoever waits for the write gets it
        write.fail(error)
        # If SQLite has given up the whole transaction, as it does when a disk is full, this fails, as it should.
        connection.execute("ROLLBACK TO one")
    connection.execute("RELEASE one")


def _roll_back(connection: sqlite3.Connection) -> None:
    # SQLite has already rolled back after some errors, a full disk among them.
    if connection.in_transaction:
        connection.execute("ROLLBACK")
