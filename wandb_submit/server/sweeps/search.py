"""A sweep's next point: chosen ahead by the search process, and handed out here, exactly once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from wandb_submit.server.engine.config import config_of, run_cap, searched_here
from wandb_submit.server.request.context import Context
from wandb_submit.server.request.engine_answers import Point
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.sweeps.sweep import by_number, settle


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


def choose(context: Context, sweep: sqlite3.Row, _agent: int) -> Chosen | Waiting | Exhausted:
    """The next point of a sweep, if one is there; nothing is computed here."""
    tx, number = context.tx, int(sweep["number"])
    if sweep["exhausted"] or _is_capped(tx, sweep):
        return Exhausted()
    found = _first_waiting(tx, number)
    if found is not None:
        return found
    if sweep["drawn"] and searched_here(config_of(sweep)):
        return Exhausted()
    tx.after_commit.append(lambda: context.server.search.wake(number))
    return Waiting()


def hand_out(context: Context, sweep: sqlite3.Row, chosen: Chosen, run: int) -> None:
    """Binds a chosen point to its run; nobody else can get it from here on.

    Looks whether it was the last one: the sweep is to end with its last run, also if no agent asks again.
    """
    tx, number = context.tx, int(sweep["number"])
    tx.execute("UPDATE points SET run = ? WHERE sweep = ? AND number = ?", (run, number, chosen.number))
    if _is_capped(tx, sweep) or (sweep["drawn"] and _first_waiting(tx, number) is None):
        mark_exhausted(context, number)
    else:
        tx.after_commit.append(lambda: context.server.search.wake(number))


def mark_exhausted(context: Context, sweep: int) -> None:
    """Remembers that there are no more points, and ends the sweep if nothing of it goes on."""
    context.tx.execute("UPDATE sweeps SET exhausted = 1 WHERE number = ? AND exhausted = 0", (sweep,))
    settle(context, sweep)


def is_spent(tx: Transaction, sweep: sqlite3.Row) -> bool:
    """Whether the search itself has nothing more to hand out; one whose target was reached may still have."""
    return _is_capped(tx, sweep) or (bool(sweep["drawn"]) and _first_waiting(tx, int(sweep["number"])) is None)


def make_room(context: Context, sweep: sqlite3.Row, run: int) -> None:
    """Lets a sweep go on with another run in place of one that was deleted; a grid tries its point again.

    W&B's search, too, knows only of the runs that are there.
    """
    tx, config = context.tx, config_of(sweep)
    number = int(sweep["number"])
    if config.get("method") == "grid" and searched_here(config):
        tx.execute("DELETE FROM points WHERE sweep = ? AND run = ?", (number, run))
        draw_anew(tx, number, context.now)
    tx.execute("UPDATE sweeps SET exhausted = 0 WHERE number = ?", (number,))
    if is_spent(tx, by_number(tx, number)):
        mark_exhausted(context, number)
    tx.after_commit.append(lambda: context.server.search.wake(number))


def draw_anew(tx: Transaction, sweep: int, now: float) -> None:
    """Drops the points of a grid that wait, and lets it be gone through from its beginning, less what was tried."""
    tx.execute("DELETE FROM points INDEXED BY waiting_points WHERE sweep = ? AND run IS NULL", (sweep,))
    tx.execute(
        # What is being drawn now is of no use any more: see `_keep` in `background`.
        "UPDATE sweeps SET drawn = 0, next_block = 0, updated_at = MAX(?, updated_at + 0.001), config_since ="
        " (SELECT COALESCE(MAX(number), 0) + 1 FROM points WHERE sweep = sweeps.number) WHERE number = ?",
        (now, sweep),
    )


def give_up(context: Context, sweep: int, reason: str) -> None:
    """Ends a sweep whose points cannot be chosen: agents are told to leave, and its description says why."""
    context.tx.execute(
        "UPDATE sweeps SET description = CASE WHEN COALESCE(description, '') = '' THEN '' ELSE description || char(10)"
        " END || ? WHERE number = ?",
        (reason, sweep),
    )
    mark_exhausted(context, sweep)


def keep(tx: Transaction, sweep: int, first: int, points: Iterable[Point], known: int = 0) -> None:
    """Puts points in stock, from number `first` on; one that was chosen before with less knowledge is replaced.

    Args:
        tx: the database.
        sweep: its number.
        first: the number of the first point.
        points: what was chosen.
        known: how many runs of the sweep had ended when they were chosen.
    """
    tx.execute_many(
        "INSERT INTO points (sweep, number, config, known) VALUES (?, ?, ?, ?) ON CONFLICT (sweep, number)"
        " DO UPDATE SET config = excluded.config, known = excluded.known WHERE run IS NULL",
        [(sweep, first + offset, json.dumps(point), known) for offset, point in enumerate(points)],
    )


def handed_out(tx: Transaction, sweep: int) -> int:
    """The number of the last point that was handed out; they go in order."""
    return tx.integer("SELECT MAX(number) FROM points WHERE sweep = ? AND run IS NOT NULL", (sweep,))


def _is_capped(tx: Transaction, sweep: sqlite3.Row) -> bool:
    """Whether the sweep has had all the runs that it may have; those that were there before it do not count."""
    cap = run_cap(config_of(sweep))
    return cap is not None and cap <= tx.integer(
        "SELECT COUNT(*) - (SELECT COUNT(*) FROM prior_runs JOIN runs ON runs.id = prior_runs.run"
        " WHERE prior_runs.sweep = :sweep AND runs.sweep = :sweep) FROM runs WHERE sweep = :sweep",
        {"sweep": sweep["number"]},
    )


def _first_waiting(tx: Transaction, sweep: int) -> Chosen | None:
    row = tx.one(
        # By itself, SQLite would go through all points that were handed out.
        "SELECT number, config FROM points INDEXED BY waiting_points WHERE sweep = ? AND run IS NULL"
        " ORDER BY number LIMIT 1",
        (sweep,),
    )
    return None if row is None else Chosen(number=row["number"], config=row["config"])
