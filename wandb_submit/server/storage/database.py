"""The server's SQLite database, and how the event loop uses it.

There is one connection that writes. What one request reads and writes is never interleaved with another's, and no
request waits on a busy database. A few threads read (`readers`), with connections of their own: in WAL mode they see
the last committed state and hold up nobody.

Short writes run on the event loop's own thread, all that wait at once in one transaction, each within a savepoint:
a thread would have to win Python's lock back from the loop after every statement, which costs far more than the
statement. What takes long runs in a thread, alone. A commit does not wait for the disk; the copying of the log into
the database file does, and has a thread of its own.

A write is acknowledged after its commit. `synchronous=NORMAL` leaves it in the page cache then: the death of the
process (also by SIGKILL) loses nothing, the death of the machine may lose the last moments, but corrupts nothing.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from wandb_submit.errors import ConfigError
from wandb_submit.server.storage.layout import differences
from wandb_submit.server.storage.readers import Lane, Readers, connect
from wandb_submit.server.storage.tables import STEPS
from wandb_submit.server.storage.transaction import Transaction
from wandb_submit.server.storage.writes import PendingWrite, Write, run_alone, run_together

__all__ = ["Database", "Lane", "Transaction"]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
# How long the event loop may write before it looks at its other work.
_TURN_S = 0.01
# From this size on the log is copied into the database file: beside the writes, as far as they leave it time; and,
# if they never do, while they wait.
_LOG_BYTES = 16 * 1024 * 1024
_LOG_BYTES_AT_MOST = 4 * _LOG_BYTES
_COPY_AGAIN_AFTER_S = 1.0
# While a disk stays full the log is not cut at every write.
_CUT_AGAIN_AFTER_S = 5.0


def is_no_room(error: BaseException | None) -> bool:
    """Whether SQLite had no room: a full disk, or a quota, which it calls an I/O error."""
    return isinstance(error, sqlite3.OperationalError) and any(word in str(error) for word in ("full", "I/O"))


class Database:
    """One server's database, open until `close`; all its other methods are for one event loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Looks whether the files are still where they were; raises an `sqlite3.Error` if not.
        self.check: Callable[[], None] = lambda: None
        self._log_path = path.with_name(path.name + "-wal")
        self._waiting: deque[PendingWrite] = deque()
        self._turn_is_due = False
        self._held = False
        self._copying = False
        self._must_wait = False
        self._next_copy = 0.0
        self._next_cut = 0.0
        self._checked_at = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database-writer")
        self._copier = ThreadPoolExecutor(1, thread_name_prefix="database-copier")
        self._readers = Readers(path)
        self._writing = self._create()

    async def write(self, work: Callable[[Transaction], _T], *, long: bool = False) -> _T:
        """Runs `work` in a transaction that no other write interleaves with; returns after the commit.

        Args:
            work: what to do; it may be begun a second time, on a database that never saw the first.
            long: it takes more than a few milliseconds, and so runs in a thread.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()
        self._waiting.append(Write(work, done, long=long))
        self._next_turn(loop)
        return await done

    async def read(self, work: Callable[[Transaction], _T], lane: Lane = Lane.LONG) -> _T:
        """Runs `work` on one consistent state of the database; it cannot change anything.

        Args:
            work: what to do; it may be begun a second time.
            lane: where it goes on, should it take long.
        """
        return await self._readers.read(work, lane)

    def close(self) -> None:
        """Lets the running transactions end and closes the files."""
        for pool in (self._thread, self._copier):
            pool.shutdown()
        self._readers.close()
        # The last connection to close folds the log into the database file, and SQLite wants that from one
        # which may write.
        self._writing.close()

    def _next_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting and not self._turn_is_due and not self._held:
            self._turn_is_due = True
            loop.call_soon(self._turn, loop)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Runs the writes that wait: short ones here, together, or a long one in its thread."""
        self._turn_is_due = False
        if self._held:  # since it was called for
            return
        if loop.time() - self._checked_at > _TURN_S and (gone := self._gone(loop)) is not None:
            refused, self._waiting = self._waiting, deque()
            for write in refused:
                write.fail(gone)
                write.deliver()
            return
        if self._waiting[0].long:
            write = self._waiting.popleft()
            running = loop.run_in_executor(self._thread, run_alone, self._writing, write)
            self._hold_for(running, loop, then=lambda: self._deliver([write], loop))
            return
        self._deliver(run_together(self._writing, self._waiting, until=time.monotonic() + _TURN_S), loop)
        self._next_turn(loop)

    def _hold_for(self, work: asyncio.Future[None], loop: asyncio.AbstractEventLoop, then: Callable[[], None]) -> None:
        """Lets no write begin until some work in a thread is done."""

        def done(_: asyncio.Future[None]) -> None:
            self._held = False
            then()
            self._next_turn(loop)

        self._held = True
        work.add_done_callback(done)

    def _deliver(self, writes: Iterable[PendingWrite], loop: asyncio.AbstractEventLoop) -> None:
        """Gives the outcomes to those who wait for them; a write that turned out to take long begins again.

        What is no longer where it was has not been kept, whatever SQLite says.
        """
        gone = self._gone(loop)
        if gone is None:
            writes = self._made_room_for(list(writes), loop)
        for write in writes:
            if gone is not None:
                write.fail(gone)
            if not write.deliver():
                write.long = True
                self._waiting.appendleft(write)
        self._copy_log(loop)

    def _made_room_for(self, writes: list[PendingWrite], loop: asyncio.AbstractEventLoop) -> list[PendingWrite]:
        """Has the log copied and cut when there was no room for some writes, and runs those again; returns the others.

        What is in the log is often several states of the same pages: the database file has room for the last ones.
        """
        starved = [write for write in writes if is_no_room(write.error) and not write.again]
        if not starved or self._copying or self._held or loop.time() < self._next_cut:
            return writes
        self._next_cut = loop.time() + _CUT_AGAIN_AFTER_S
        for write in reversed(starved):
            write.again = True
            self._waiting.appendleft(write)
        cutting = loop.run_in_executor(self._copier, self._copy, "TRUNCATE")
        self._hold_for(cutting, loop, then=lambda: None)
        return [write for write in writes if not write.again or write not in starved]

    def _gone(self, loop: asyncio.AbstractEventLoop) -> sqlite3.Error | None:
        """Why nothing can be kept any more, if that is so."""
        self._checked_at = loop.time()
        try:
            self.check()
        except sqlite3.Error as error:
            return error
        return None

    def _copy_log(self, loop: asyncio.AbstractEventLoop) -> None:
        """Has the log copied into the database file once it is long; SQLite then begins it anew.

        It does so only if all of it has been copied, which writes that go on prevent. Once it is too long, they wait:
        right after a copy beside them, when there is little left to be copied.
        """
        if self._copying or self._held:
            return
        if self._must_wait:
            self._must_wait = False
            copying = loop.run_in_executor(self._copier, self._copy, "RESTART")
            self._hold_for(copying, loop, then=lambda: self._copied(loop))
        elif loop.time() >= self._next_copy and self._log_bytes() > _LOG_BYTES:
            self._copying = True
            copying = loop.run_in_executor(self._copier, self._copy, "PASSIVE")
            copying.add_done_callback(lambda _: self._copied(loop))

    def _copied(self, loop: asyncio.AbstractEventLoop) -> None:
        self._must_wait = self._copying and self._log_bytes() > _LOG_BYTES_AT_MOST
        self._copying = False
        self._next_copy = loop.time() + _COPY_AGAIN_AFTER_S
        self._copy_log(loop)

    def _log_bytes(self) -> int:
        return self._log_path.stat().st_size if self._log_path.exists() else 0

    def _copy(self, mode: str) -> None:
        try:
            self._readers.connection().execute(f"PRAGMA wal_checkpoint({mode})")
        except sqlite3.Error as error:
            # Until it succeeds, everything is in the log.
            _log.warning("cannot copy the log into the database now: %s", error)

    def _create(self) -> sqlite3.Connection:
        """Opens the connection that writes, and brings the tables up to date."""
        try:
            connection = connect(self.path)
            connection.execute("PRAGMA cache_size=-16000")
            # The log is copied by a thread, and its file's length tells how much is in it.
            connection.execute("PRAGMA wal_autocheckpoint=0")
            connection.execute(f"PRAGMA journal_size_limit={_LOG_BYTES // 4}")
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if version > len(STEPS):
                raise ConfigError(
                    f"{self.path} was written by a newer wandb-submit (its tables are version {version}, this one "
                    f"knows {len(STEPS)}): upgrade wandb-submit, or use another folder"
                )
            if wrong := differences(connection, version):
                raise ConfigError(
                    f"{self.path} does not have the tables of version {version}, which it names: {wrong}. It was "
                    "written by a state of wandb-submit between two versions, or by another program: serve it with "
                    "the wandb-submit that wrote it, or name another folder with --data"
                )
            for number, step in enumerate(STEPS[version:], version + 1):
                connection.executescript(f"BEGIN; {step} PRAGMA user_version={number}; COMMIT;")
        except sqlite3.Error as error:
            raise ConfigError(f"cannot open the database {self.path}: {error}") from error
        return connection
