"""A run's page."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wandb_submit.server.runs.run import by_name
from wandb_submit.server.runs.state import LIVE
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.server.web.artifacts import ArtifactLine, artifact_lines
from wandb_submit.server.web.console import console_tail
from wandb_submit.server.web.devices import run_device
from wandb_submit.server.web.links import file_url, project_url, sweep_url
from wandb_submit.server.web.run_charts import RunCharts, run_charts
from wandb_submit.server.web.values import config_values, runtime, summary_values
from wandb_submit.server.web.wording import value_text

_MAX_FILES = 500
_MAX_ALERTS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class FileLine:
    """A file that the run has uploaded."""

    name: str
    url: str
    size: int
    updated_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """What a run's page shows.

    Attributes:
        facts: the run's record by what each entry is called; only what is known.
        alerts: the last ones, the newest first.
        lines_total: how many lines the console has.
        files_total: how many files there are.
    """

    name: str
    display_name: str
    entity: str
    project: str
    project_url: str
    state: str
    live: bool
    sweep: str | None
    sweep_url: str | None
    agent: str | None
    tags: Sequence[str]
    notes: str
    created_at: float
    heartbeat_at: float
    duration_s: float | None
    facts: Mapping[str, str]
    config: Mapping[str, str]
    summary: Mapping[str, str]
    alerts: Sequence[sqlite3.Row]
    charts: RunCharts
    lines: Sequence[str]
    lines_total: int
    files: Sequence[FileLine]
    files_total: int
    artifacts: Sequence[ArtifactLine]


def read_run(tx: Transaction, entity: str, project: str, name: str, data_dir: Path) -> RunView:
    """Reads a run's page.

    Raises:
        Refusal: 404 if there is no such run.
    """
    row = by_name(tx, entity, project, name)
    if row is None:
        raise Refusal(f"there is no run {name} in {entity}/{project} here", status=404)
    agent = tx.one("SELECT id, host FROM agents WHERE number = ?", (row["agent"],))
    seconds = runtime(row["summary"])
    if seconds is None and row["state"] != "pending":
        seconds = row["heartbeat_at"] - row["created_at"]
    tags = json.loads(row["tags"])
    return RunView(
        name=row["name"],
        display_name=row["display_name"],
        entity=entity,
        project=project,
        project_url=project_url(entity, project),
        state=row["state"],
        live=row["state"] in LIVE,
        sweep=row["sweep_id"],
        sweep_url=sweep_url(entity, project, row["sweep_id"]) if row["sweep_id"] else None,
        agent=agent["id"] if agent else None,
        tags=[str(tag) for tag in tags] if isinstance(tags, list) else [],
        notes=row["notes"] or "",
        created_at=row["created_at"],
        heartbeat_at=row["heartbeat_at"],
        duration_s=seconds,
        facts=_facts(row, agent, run_device(data_dir, entity, project, name)),
        config={key: value_text(value) for key, value in config_values(row["config"]).items()},
        summary={key: value_text(value) for key, value in summary_values(row["summary"]).items()},
        alerts=tx.rows("SELECT * FROM alerts WHERE run = ? ORDER BY at DESC LIMIT ?", (row["id"], _MAX_ALERTS)),
        charts=run_charts(tx, row["id"]),
        lines=console_tail(tx, row["id"]),
        lines_total=tx.integer("SELECT COUNT(*) FROM console WHERE run = ?", (row["id"],)),
        files=[
            FileLine(
                name=file["name"],
                url=file_url(entity, project, name, file["name"]),
                size=file["size"],
                updated_at=file["updated_at"],
            )
            for file in tx.rows("SELECT * FROM files WHERE run = ? ORDER BY name LIMIT ?", (row["id"], _MAX_FILES))
        ],
        files_total=tx.integer("SELECT COUNT(*) FROM files WHERE run = ?", (row["id"],)),
        artifacts=artifact_lines(tx, row["id"]),
    )


def _facts(row: sqlite3.Row, agent: sqlite3.Row | None, device: str) -> Mapping[str, str]:
    exit_code = row["exit_code"]
    facts = {
        "Exit code": None if exit_code is None else str(exit_code),
        "Host": row["host"] or (agent["host"] if agent else None),
        "Device": device,
        "Program": row["program"],
        "Group": row["run_group"],
        "Job type": row["job_type"],
        "Git commit": row["git_commit"],
        "Git remote": row["git_remote"],
        "Stop requested": "yes" if row["stop_requested_at"] is not None else None,
    }
    return {name: value for name, value in facts.items() if value}
