"""The orders that give an agent a run, and the run records that go with them."""

from __future__ import annotations

import json
import sqlite3
from typing import TypeAlias

from wandb_submit.server.context import Context
from wandb_submit.server.sweeps import search, sweep
from wandb_submit.server.sweeps.config import parse_config

# One entry of a heartbeat's `commands`, as W&B's agents read it.
Order: TypeAlias = dict[str, object]


def give_new(context: Context, agent: sqlite3.Row, row: sqlite3.Row, chosen: search.Chosen) -> Order:
    """Makes the pending run of a chosen point and the order to run it, in one transaction."""
    name = sweep.new_id()
    run = context.tx.insert(
        "INSERT INTO runs (project, name, sweep, agent, state, display_name, point, config, handed_out_at,"
        " handed_out_by, created_at, heartbeat_at) VALUES (?, ?, ?, ?, 'pending', ?, ?, ?, ?, ?, ?, ?)",
        (
            row["project"],
            name,
            row["number"],
            agent["number"],
            f"{row['id']}-{chosen.number}",
            chosen.config,
            chosen.config,
            context.now,
            context.server.process,
            context.now,
            context.now,
        ),
    )
    search.hand_out(context, row, chosen, run)
    return order("run", name, row, chosen.config)


def give_preempted(context: Context, agent: sqlite3.Row, row: sqlite3.Row) -> Order | None:
    """The order to resume the sweep's longest preempted run, if there is one."""
    run = context.tx.one(
        "SELECT * FROM runs WHERE sweep = ? AND state = 'preempted' ORDER BY id LIMIT 1", (row["number"],)
    )
    if run is None:
        return None
    context.tx.execute(
        "UPDATE runs SET state = 'pending', agent = ?, preempting = 0, exit_code = NULL, gone_at = NULL, reported = 0,"
        " handed_out_at = ?, handed_out_by = ?, heartbeat_at = ? WHERE id = ?",
        (agent["number"], context.now, context.server.process, context.now, run["id"]),
    )
    return order("resume", run["name"], row, run["point"] or "{}")


def order(kind: str, name: str, row: sqlite3.Row, point: str) -> Order:
    """The order to run (`run`) or resume (`resume`) one run of the sweep `row`."""
    program = parse_config(row["config"]).get("program")
    return {
        "type": kind,
        "run_id": name,
        "program": program if isinstance(program, str) else "",
        "args": json.loads(point),
        "id": name,
        "logs": [],
    }
