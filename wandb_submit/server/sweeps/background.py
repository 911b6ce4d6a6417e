"""What the server does about its sweeps between the requests: points in stock, runs stopped early, targets reached."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable

from wandb_submit.server.engine.config import config_of, is_large, stops_early, target
from wandb_submit.server.request.context import Context
from wandb_submit.server.request.engine_answers import Drawn, Proposal, Ruling
from wandb_submit.server.storage.database import Database, Transaction
from wandb_submit.server.sweeps import search
from wandb_submit.server.sweeps.search_process import SearchFailedError, SearchProcess, SearchRefusedError
from wandb_submit.server.sweeps.stock import Lack, lack
from wandb_submit.server.sweeps.sweep import ENDED, by_number

_log = logging.getLogger(__name__)
# What comes in meanwhile is looked at together, and the request that woke us is answered first: reading in a thread
# beside it would take Python's lock away from it.
_PAUSE_S = 0.02
# After a failure of the search process, for one sweep; doubled up to the second.
_RETRY_S = (1.0, 60.0)

_Changed = dict[int, "int | None"]


class _Turns:
    """Sweeps to look at, by number, the first to be told of first."""

    def __init__(self) -> None:
        self._woken: dict[int, None] = {}
        self._wanted = asyncio.Event()

    def add(self, sweep: int) -> None:
        """Lets a sweep be looked at; told twice, once."""
        self._woken[sweep] = None
        self._wanted.set()

    async def next(self) -> list[int]:
        """Those that are due, as soon as there are any."""
        await self._wanted.wait()
        await asyncio.sleep(_PAUSE_S)
        self._wanted.clear()
        woken, self._woken = list(self._woken), {}
        return woken


class BackgroundSearch:
    """Keeps every sweep's stock filled and its runs followed, by way of the search process.

    Whoever changes something says so by `wake` or `progressed`, which cost nothing; sweeps are looked at in turn, one
    step each, so that none waits for all of another's.
    """

    def __init__(self, database: Database, seed: int) -> None:
        self._database = database
        # What is large has a process and turns of its own, so that no other sweep waits for it.
        self._processes = {large: SearchProcess(database.path) for large in (False, True)}
        self._turns = {large: _Turns() for large in (False, True)}
        self._large: set[int] = set()
        self._seed = seed
        self._reserved = 0
        self._changed: dict[int, _Changed | None] = {}
        self._failures: dict[int, int] = {}
        self._not_before: dict[int, float] = {}
        self._remarks: dict[int, str] = {}
        self._in_context: Callable[[Transaction], Context] | None = None

    def wake(self, sweep: int) -> None:
        """Says that points of a sweep were handed out, or that one of its runs has ended; from the event loop."""
        self._turns[sweep in self._large].add(sweep)

    def progressed(self, sweep: int, run: int, first_row: int | None) -> None:
        """Says that a run has sent rows of its history, from that number on, or (None) a summary."""
        changed = self._changed.setdefault(sweep, {})
        if changed is not None:
            before = changed.get(run)
            changed[run] = first_row if before is None else before if first_row is None else min(before, first_row)
        self.wake(sweep)

    async def propose(self, config: str, *, sweep: int | None, prior: list[int]) -> tuple[int, Proposal]:
        """Judges a config and draws its first points; returns them with the number of the sweep they are for.

        Args:
            config: YAML.
            sweep: the sweep that is to get the config; None for a new one, which gets the number that is returned.
            prior: the runs that a new one is to count as tried.

        Raises:
            UnavailableError: if the search process ends over it.
        """
        number = await self._next_number() if sweep is None else sweep
        self._note_size(number, config)
        proposal = await self._process_of(number).propose(
            config, sweep=number, seed=self._seed_of(number), prior=prior if sweep is None else None
        )
        return number, proposal

    async def run(self, in_context: Callable[[Transaction], Context]) -> None:
        """Does what is wanted, until cancelled."""
        self._in_context = in_context
        taking: list[asyncio.Task[None]] = []
        try:
            await self._look_at_all()
            taking += [asyncio.create_task(self._take(turns)) for turns in self._turns.values()]
            await asyncio.gather(*taking)
        finally:
            for task in taking:
                task.cancel()
            # Each ends the process that it waits for.
            await asyncio.gather(*taking, return_exceptions=True)
            for process in self._processes.values():
                await process.end()

    async def _take(self, turns: _Turns) -> None:
        while True:
            for sweep in await turns.next():
                await self._look(sweep)

    async def _look_at_all(self) -> None:
        """Goes on with what was under way when the server ended."""
        rows = await self._database.read(
            lambda tx: tx.rows("SELECT number, config, outline FROM sweeps WHERE state NOT IN (?, ?)", sorted(ENDED))
        )
        for row in rows:
            self._note_size(row["number"], row["config"])
            if _is_followed(row):
                self._changed[row["number"]] = None
            self.wake(row["number"])

    async def _look(self, sweep: int) -> None:
        """One step for one sweep: its runs, or its next points."""
        if time.monotonic() < self._not_before.get(sweep, 0):
            return
        try:
            if sweep in self._changed:
                await self._follow(sweep, self._changed.pop(sweep))
        except SearchRefusedError as error:
            # Runs are not stopped early then, and go on.
            self._remark(sweep, str(error))
        except Exception as error:  # noqa: BLE001 - one sweep's search must not end the others'
            self._failed(sweep, error)
            return
        try:
            lacking = await self._database.read(lambda tx: lack(tx, sweep, time.time()))
            if lacking is not None:
                await self._draw(lacking)
                self.wake(sweep)
            self._failures.pop(sweep, None)
            self._not_before.pop(sweep, None)
        except SearchRefusedError as error:
            reason = f"{error}. No further runs are handed out."
            _log.error("sweep number %d: %s", sweep, reason)
            await self._write(lambda context: search.give_up(context, sweep, reason))
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(sweep, error)

    def _failed(self, sweep: int, error: Exception) -> None:
        """Tells of a failure, and has the sweep looked at again later if there is a chance."""
        if not isinstance(error, SearchFailedError | sqlite3.Error):
            _log.error("the search of sweep number %d failed", sweep, exc_info=error)
            return
        failures = self._failures[sweep] = self._failures.get(sweep, 0) + 1
        wait_s = min(_RETRY_S[1], _RETRY_S[0] * 2 ** (failures - 1))
        _log.error("sweep number %d: %s; again in %.0f s", sweep, error, wait_s)
        self._not_before[sweep] = time.monotonic() + wait_s
        asyncio.get_running_loop().call_later(wait_s, self.wake, sweep)

    def _remark(self, sweep: int, remark: str) -> None:
        """Logs what a sweep's user may wonder about, once."""
        if remark and self._remarks.get(sweep) != remark:
            self._remarks[sweep] = remark
            _log.warning("sweep number %d: %s", sweep, remark)

    async def _draw(self, lacking: Lack) -> None:
        row, number = lacking.row, int(lacking.row["number"])
        since = row["config_since"] or lacking.first
        drawn = await self._process_of(number).draw(
            row["config"],
            sweep=number,
            seed=self._seed_of(number),
            first=lacking.first,
            block=row["next_block"],
            since=since,
        )
        self._remark(number, drawn.remark)
        await self._write(lambda context: _keep(context, lacking, drawn, since))

    async def _follow(self, sweep: int, changed: _Changed | None) -> None:
        row = await self._database.read(lambda tx: by_number(tx, sweep))
        text = row["config"]
        if not _is_followed(row):
            return
        try:
            ruling = await self._process_of(sweep).follow(text, sweep=sweep, changed=changed)
        except SearchFailedError:
            # Another process knows nothing yet, and reads everything.
            self._changed[sweep] = None
            raise
        if ruling.stop or (ruling.reached and not row["exhausted"]):
            await self._write(lambda context: _apply(context, sweep, text, ruling))

    async def _write(self, work: Callable[[Context], None]) -> None:
        in_context = self._in_context
        assert in_context is not None  # noqa: S101 - set by `run`, which alone comes here
        await self._database.write(lambda tx: work(in_context(tx)))

    def _note_size(self, sweep: int, config: str) -> None:
        """Takes down where a sweep is searched that has this config, or may soon have it."""
        if is_large(config):
            self._large.add(sweep)
        else:
            self._large.discard(sweep)

    def _process_of(self, sweep: int) -> SearchProcess:
        return self._processes[sweep in self._large]

    async def _next_number(self) -> int:
        """The number for a new sweep; it seeds the search, so it is known before there is a sweep."""
        last = await self._database.read(lambda tx: tx.integer("SELECT seq FROM sqlite_sequence WHERE name = 'sweeps'"))
        self._reserved = max(self._reserved, last) + 1
        return self._reserved

    def _seed_of(self, sweep: int) -> str:
        return f"{self._seed}/{sweep}"


def _is_followed(sweep: sqlite3.Row) -> bool:
    """Whether what the runs of a sweep send has consequences for the sweep."""
    parsed = config_of(sweep)
    return stops_early(parsed) or target(parsed) is not None


def _keep(context: Context, lacking: Lack, drawn: Drawn, since: int) -> None:
    """Puts what was drawn in stock, unless the sweep got another config meanwhile."""
    tx, number = context.tx, int(lacking.row["number"])
    row = by_number(tx, number)
    if (row["config"], row["updated_at"]) != (lacking.row["config"], lacking.row["updated_at"]):
        return
    search.keep(tx, number, lacking.first, drawn.points, lacking.known)
    tx.execute(
        "UPDATE sweeps SET next_block = ?, config_since = ?, drawn = ? WHERE number = ?",
        (drawn.next_block, since, int(drawn.done), number),
    )
    waiting = "SELECT 1 FROM points INDEXED BY waiting_points WHERE sweep = ? AND run IS NULL LIMIT 1"
    if drawn.done and tx.one(waiting, (number,)) is None:
        search.mark_exhausted(context, number)


def _apply(context: Context, sweep: int, config: str, ruling: Ruling) -> None:
    """Asks runs to stop, and ends a sweep that has reached its target, unless it got another config meanwhile."""
    if by_number(context.tx, sweep)["config"] != config:
        return
    for run in ruling.stop:
        context.tx.execute(
            "UPDATE runs SET stop_requested_at = ? WHERE id = ? AND state = 'running' AND stop_requested_at IS NULL",
            (context.steady, run),
        )
    if ruling.reached:
        search.mark_exhausted(context, sweep)
