"""Choosing a sweep's next points and handing them out, each exactly once."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from wandb_submit.server.context import Context
from wandb_submit.server.database import Database, Transaction
from wandb_submit.server.sweeps import engine
from wandb_submit.server.sweeps.sweep import ENDED, by_number, settle

_log = logging.getLogger(__name__)
# The engine goes over all earlier points each time, so points are drawn in batches that grow with their number.
_BATCH = 16
# Bayes looks at what other runs have shown; a point drawn long before it is used would be a stale one.
_BAYES_BATCH = 8
# The engine takes a second or two of processor time to import, which would slow down a server's first answers.
_WARM_UP_AFTER_S = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """There is no point now, but there may be one at a later heartbeat."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exhausted:
    """There will be no more new points."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """The next point, to be handed out in this transaction."""

    number: int
    config: str


def choose(context: Context, sweep: sqlite3.Row, agent: int) -> Chosen | Waiting | Exhausted:
    """The next point of a sweep, drawn here if it is cheap, else asked for in the background."""
    tx, number = context.tx, int(sweep["number"])
    config = engine.parse_config(sweep["config"])
    cap = config.get("run_cap")
    if sweep["exhausted"] or (isinstance(cap, int) and _run_count(tx, number) >= cap):
        return Exhausted()
    if config["method"] == "bayes":
        found = _first_waiting(tx, number)
        if found is None:
            tx.after_commit.append(lambda: context.server.want_points(number, agent))
            return Waiting()
        return found
    return _first_waiting(tx, number) or _draw(tx, sweep, config, context.server.seed) or Exhausted()


def hand_out(context: Context, sweep: sqlite3.Row, chosen: Chosen, run: int) -> None:
    """Binds a chosen point to its run; nobody else can get it from here on.

    Looks whether it was the last one: the sweep is to end with its last run, also if no agent asks again.
    """
    tx, number = context.tx, int(sweep["number"])
    tx.execute("UPDATE points SET run = ? WHERE sweep = ? AND number = ?", (run, number, chosen.number))
    config = engine.parse_config(sweep["config"])
    cap = config.get("run_cap")
    capped = isinstance(cap, int) and _run_count(tx, number) >= cap
    if capped or (
        config["method"] == "grid"
        and _first_waiting(tx, number) is None
        and _draw(tx, sweep, config, context.server.seed) is None
    ):
        mark_exhausted(tx, number)


def mark_exhausted(tx: Transaction, sweep: int) -> None:
    """Remembers that there are no more points, and ends the sweep if nothing of it goes on."""
    tx.execute("UPDATE sweeps SET exhausted = 1 WHERE number = ? AND exhausted = 0", (sweep,))
    settle(tx, sweep)


def _run_count(tx: Transaction, sweep: int) -> int:
    return tx.integer("SELECT COUNT(*) FROM runs WHERE sweep = ?", (sweep,))


def _first_waiting(tx: Transaction, sweep: int) -> Chosen | None:
    row = tx.one("SELECT number, config FROM points WHERE sweep = ? AND run IS NULL ORDER BY number LIMIT 1", (sweep,))
    return None if row is None else Chosen(number=row["number"], config=row["config"])


def _draw(tx: Transaction, sweep: sqlite3.Row, config: engine.Config, seed: int) -> Chosen | None:
    """Draws the next batch of a grid or random search and returns its first point; None if a grid is done."""
    number = int(sweep["number"])
    first = tx.integer("SELECT MAX(number) FROM points WHERE sweep = ?", (number,)) + 1
    grid = config["method"] == "grid"
    points = engine.next_points(
        config,
        _tried(tx, number, with_results=False) if grid else (),
        n=max(_BATCH, first // 2) if grid else _BATCH,
        seed=f"{seed}/{number}/{first}",
    )
    _keep(tx, number, first, points)
    return _first_waiting(tx, number)


def _keep(tx: Transaction, sweep: int, first: int, points: list[engine.Point]) -> None:
    tx.execute_many(
        "INSERT INTO points (sweep, number, config) VALUES (?, ?, ?)",
        [(sweep, first + offset, json.dumps(point)) for offset, point in enumerate(points)],
    )


def _tried(tx: Transaction, sweep: int, *, with_results: bool) -> list[engine.Tried]:
    """All points chosen so far, and the runs that joined the sweep with a config of their own."""
    rows = tx.rows(
        "SELECT points.config AS config, runs.id, runs.state, runs.summary FROM points LEFT JOIN runs"
        " ON runs.id = points.run WHERE points.sweep = ? UNION ALL SELECT config, id, state, summary FROM runs"
        " WHERE sweep = ? AND point IS NULL",
        (sweep, sweep),
    )
    if not with_results:
        return [engine.Tried(config=json.loads(row["config"])) for row in rows]
    return [
        engine.Tried(
            config=json.loads(row["config"]),
            state=row["state"] or "pending",
            summary=json.loads(row["summary"] or "{}"),
        )
        for row in rows
    ]


class BackgroundSearch:
    """Draws the points of bayes sweeps in a thread of its own: it takes from 0.1 s to seconds.

    A heartbeat that finds no point is answered with nothing to do, and asks for one here; the agent's next
    heartbeat gets it.
    """

    def __init__(self, database: Database, seed: int) -> None:
        self._database = database
        self._seed = seed
        self._waiting: defaultdict[int, set[int]] = defaultdict(set)
        self._wanted = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="search")

    def want(self, sweep: int, agent: int) -> None:
        """Asks for one point for one agent; asking again before it is there changes nothing."""
        self._waiting[sweep].add(agent)
        self._wanted.set()

    async def run(self) -> None:
        """Draws whatever is wanted, until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(_WARM_UP_AFTER_S)
            await loop.run_in_executor(self._thread, engine.load)
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                while self._waiting:
                    sweep, agents = self._waiting.popitem()
                    try:
                        await self._serve(loop, sweep, len(agents))
                    except Exception:  # noqa: BLE001 - one sweep's search must not end the others'
                        _log.exception("the search of sweep number %d failed", sweep)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _serve(self, loop: asyncio.AbstractEventLoop, number: int, wanted: int) -> None:
        sweep, tried, first, spare = await self._database.read(lambda tx: _state_of(tx, number))
        missing = min(_BAYES_BATCH, wanted - spare)
        if missing < 1 or sweep["state"] in ENDED:
            return
        config = engine.parse_config(sweep["config"])
        points = await loop.run_in_executor(
            self._thread,
            lambda: engine.next_points(config, tried, n=missing, seed=f"{self._seed}/{number}/{first}"),
        )

        def keep(tx: Transaction) -> None:
            # Unless the sweep got another config meanwhile.
            if by_number(tx, number)["config"] == sweep["config"]:
                _keep(tx, number, first, points)

        await self._database.write(keep)


def _state_of(tx: Transaction, number: int) -> tuple[sqlite3.Row, list[engine.Tried], int, int]:
    """A sweep, what it has tried, its next point's number, and how many points wait to be handed out."""
    return (
        by_number(tx, number),
        _tried(tx, number, with_results=True),
        tx.integer("SELECT MAX(number) FROM points WHERE sweep = ?", (number,)) + 1,
        tx.integer("SELECT COUNT(*) FROM points WHERE sweep = ? AND run IS NULL", (number,)),
    )
