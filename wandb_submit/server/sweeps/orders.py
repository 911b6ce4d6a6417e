"""The orders that give an agent a run, and the run records that go with them."""

from __future__ import annotations

import json
import sqlite3
from typing import TypeAlias

from wandb_submit.server.engine.config import config_of
from wandb_submit.server.request.context import Context
from wandb_submit.server.runs.state import WAITING
from wandb_submit.server.sweeps import search, sweep
from wandb_submit.server.sweeps.controller import Scheduled, note_scheduled
from wandb_submit.server.sweeps.sweep import by_number

# One entry of a heartbeat's `commands`, as W&B's agents read it.
Order: TypeAlias = dict[str, object]


def give_new(context: Context, agent: sqlite3.Row, row: sqlite3.Row, chosen: search.Chosen) -> Order:
    """Makes the pending run of a chosen point and the order to run it, in one transaction."""
    name = sweep.new_id()
    run = _insert(context, agent, row, name, chosen.config, f"{row['id']}-{chosen.number}")
    search.hand_out(context, row, chosen, run)
    return order("run", name, row, chosen.config)


def give_scheduled(context: Context, agent: sqlite3.Row, row: sqlite3.Row, scheduled: Scheduled) -> Order:
    """Makes the pending run that the sweep's own controller wants, and the order to run it."""
    name, point = sweep.new_id(), scheduled.point or "{}"
    _insert(context, agent, row, name, point, f"{row['id']}-{name}")
    note_scheduled(context, row, scheduled, name)
    return order("run", name, row, point)


def _insert(context: Context, agent: sqlite3.Row, row: sqlite3.Row, name: str, point: str, display_name: str) -> int:
    return context.tx.insert(
        "INSERT INTO runs (project, name, sweep, agent, state, display_name, point, config, handed_out_at,"
        " handed_out_by, created_at, heartbeat_at) VALUES (?, ?, ?, ?, 'pending', ?, ?, ?, ?, ?, ?, ?)",
        (
            row["project"],
            name,
            row["number"],
            agent["number"],
            display_name,
            point,
            point,
            context.steady,
            context.server.process,
            context.now,
            context.now,
        ),
    )


def give_again(context: Context, agent: sqlite3.Row, row: sqlite3.Row) -> Order | None:
    """The order for a run of the sweep that waits for an agent: preempted ones first, the oldest of them first.

    A preempted run may have told its end before its process has ended, and perhaps still writes the checkpoint
    that it is to be resumed from: as long as its agent reports it, nobody gets it.
    """
    waiting = context.tx.rows(
        "SELECT id, state, agent, resumed, reported, gone_at FROM runs"  # noqa: S608 - a constant
        f" WHERE sweep = ? AND {WAITING} ORDER BY state = 'preempted' DESC, id",
        (row["number"],),
    )
    free = (
        run for run in waiting if not run["reported"] or run["gone_at"] is not None or is_silent(context, run["agent"])
    )
    run = next(free, None)
    if run is None:
        return None
    context.tx.execute(
        "UPDATE runs SET state = 'pending', agent = ?, preempting = 0, exit_code = NULL, gone_at = NULL, reported = 0,"
        " resumed = ?, handed_out_at = ?, handed_out_by = ?, heartbeat_at = ? WHERE id = ?",
        (
            agent["number"],
            int(run["resumed"] or run["state"] == "preempted"),
            context.steady,
            context.server.process,
            context.now,
            run["id"],
        ),
    )
    return repeat(context, run["id"])


def is_silent(context: Context, agent: int | None) -> bool:
    """Whether nothing has been heard of an agent (by its number) for so long that it may not come back."""
    return agent is None or context.server.heard.silence_s("agents", agent) > context.server.settings.gone_grace_s


def repeat(context: Context, run: int) -> Order:
    """The order that hands out a run which is bound to its agent already."""
    found = context.tx.one("SELECT * FROM runs WHERE id = ?", (run,))
    assert found is not None  # noqa: S101 - read or changed in this transaction
    kind = "resume" if found["resumed"] else "run"
    return order(kind, found["name"], by_number(context.tx, found["sweep"]), found["point"] or "{}")


def order(kind: str, name: str, row: sqlite3.Row, point: str) -> Order:
    """The order to run (`run`) or resume (`resume`) one run of the sweep `row`."""
    program = config_of(row).get("program")
    return {
        "type": kind,
        "run_id": name,
        "program": program if isinstance(program, str) else "",
        "args": json.loads(point),
        "id": name,
        "logs": [],
    }
