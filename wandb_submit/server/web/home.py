"""The first page: all sweeps of all projects; and a project's page: its sweeps and its other runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wandb_submit.server.projects.projects import find
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.server.web.links import project_url, run_url
from wandb_submit.server.web.paging import Paging
from wandb_submit.server.web.sweep_line import SELECT, SweepLine, sweep_lines

_SWEEPS, _RUNS = 25, 50


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectLine:
    """A project in the list of all."""

    entity: str
    name: str
    url: str
    sweeps: int
    runs: int
    runs_without_sweep: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLine:
    """A run in a project's list."""

    display_name: str
    url: str
    state: str
    created_at: float
    heartbeat_at: float
    host: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Home:
    """What the first page shows."""

    sweeps: Sequence[SweepLine]
    paging: Paging
    projects: Sequence[ProjectLine]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectView:
    """What a project's page shows."""

    entity: str
    name: str
    sweeps: Sequence[SweepLine]
    paging: Paging
    runs: Sequence[RunLine]
    runs_paging: Paging


def read_home(tx: Transaction, asked: Mapping[str, str]) -> Home:
    """Sweeps, the latest first, and all projects."""
    paging = Paging.of(asked, tx.integer("SELECT COUNT(*) FROM sweeps"), _SWEEPS)
    rows = tx.rows(f"{SELECT} ORDER BY sweeps.number DESC LIMIT ? OFFSET ?", (_SWEEPS, paging.offset))
    projects = tx.rows(
        "SELECT entity, name, (SELECT COUNT(*) FROM sweeps WHERE project = projects.id) AS sweeps,"
        " (SELECT COUNT(*) FROM runs WHERE project = projects.id) AS runs,"
        " (SELECT COUNT(*) FROM runs WHERE project = projects.id AND sweep IS NULL) AS runs_without_sweep"
        " FROM projects ORDER BY entity, name"
    )
    return Home(
        sweeps=sweep_lines(tx, rows),
        paging=paging,
        projects=[ProjectLine(url=project_url(row["entity"], row["name"]), **dict(row)) for row in projects],
    )


def read_project(tx: Transaction, entity: str, name: str, asked: Mapping[str, str]) -> ProjectView:
    """A project's sweeps and the runs that belong to none, the latest first.

    Raises:
        Refusal: 404 if there is no such project.
    """
    project = find(tx, entity, name)
    if project is None:
        raise Refusal(f"there is no project {entity}/{name} here", status=404)
    number = project["id"]
    paging = Paging.of(asked, tx.integer("SELECT COUNT(*) FROM sweeps WHERE project = ?", (number,)), _SWEEPS)
    sweeps = tx.rows(
        f"{SELECT} WHERE sweeps.project = ? ORDER BY sweeps.number DESC LIMIT ? OFFSET ?",
        (number, _SWEEPS, paging.offset),
    )
    total = tx.integer("SELECT COUNT(*) FROM runs WHERE project = ? AND sweep IS NULL", (number,))
    runs_paging = Paging.of(asked, total, _RUNS, "runs")
    runs = tx.rows(
        "SELECT * FROM runs WHERE project = ? AND sweep IS NULL ORDER BY id DESC LIMIT ? OFFSET ?",
        (number, _RUNS, runs_paging.offset),
    )
    return ProjectView(
        entity=entity,
        name=name,
        sweeps=sweep_lines(tx, sweeps),
        paging=paging,
        runs=[_run(entity, name, row) for row in runs],
        runs_paging=runs_paging,
    )


def _run(entity: str, project: str, row: sqlite3.Row) -> RunLine:
    return RunLine(
        display_name=row["display_name"],
        url=run_url(entity, project, row["name"]),
        state=row["state"],
        created_at=row["created_at"],
        heartbeat_at=row["heartbeat_at"],
        host=row["host"] or "",
    )
