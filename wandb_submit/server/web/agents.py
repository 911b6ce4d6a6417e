"""A sweep's agents as a table: where they are, what they compute on, what they do now."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.web.devices import run_device
from wandb_submit.server.web.links import run_url

# The rest are counted: a sweep may have had thousands.
MAX_AGENTS = 100
# An agent that has said nothing for so long is shown as gone; W&B's own say something every 5 s.
_SILENT_S = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentLine:
    """One agent.

    Attributes:
        device: what it has itself, if it told.
        machine: what its last run says of the machine.
    """

    id: str
    host: str
    device: str
    machine: str
    state: str
    run: str | None
    run_url: str | None
    ended_runs: int
    heartbeat_at: float


def agent_lines(tx: Transaction, sweep: sqlite3.Row, data_dir: Path, now: float) -> tuple[Sequence[AgentLine], int]:
    """The agents of a sweep that were heard last, and how many there are in all."""
    rows = tx.rows(
        "SELECT agents.*,"
        " (SELECT name FROM runs WHERE agent = agents.number AND state IN ('running', 'pending') LIMIT 1) AS run,"
        " (SELECT name FROM runs WHERE agent = agents.number ORDER BY id DESC LIMIT 1) AS last_run,"
        " (SELECT COUNT(*) FROM runs WHERE agent = agents.number"
        "  AND state IN ('finished', 'failed', 'crashed', 'killed')) AS ended_runs"
        " FROM agents WHERE sweep = ? ORDER BY heartbeat_at DESC, number LIMIT ?",
        (sweep["number"], MAX_AGENTS),
    )
    total = tx.integer("SELECT COUNT(*) FROM agents WHERE sweep = ?", (sweep["number"],))
    return [_line(row, sweep, data_dir, now) for row in rows], total


def _line(row: sqlite3.Row, sweep: sqlite3.Row, data_dir: Path, now: float) -> AgentLine:
    entity, project = sweep["entity"], sweep["project_name"]
    silent = now - row["heartbeat_at"] > _SILENT_S
    return AgentLine(
        id=row["id"],
        host=row["host"],
        device=row["device"],
        machine=run_device(data_dir, entity, project, row["last_run"]) if row["last_run"] else "",
        state="SILENT" if silent and row["state"] == "RUNNING" else row["state"],
        run=row["run"],
        run_url=run_url(entity, project, row["run"]) if row["run"] else None,
        ended_runs=row["ended_runs"],
        heartbeat_at=row["heartbeat_at"],
    )
