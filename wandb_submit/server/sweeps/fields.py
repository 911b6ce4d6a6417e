"""What the API shows of projects, sweeps and agents."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from wandb_submit.metrics import Metric
from wandb_submit.server.artifacts.queries import project_artifacts
from wandb_submit.server.engine.config import config_of, is_controlled, run_cap
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.graphql.not_offered import NO_REGISTRIES, REGISTRY_PREFIX
from wandb_submit.server.projects.projects import find, project_fields
from wandb_submit.server.request.context import Context
from wandb_submit.server.request.pages import connection
from wandb_submit.server.runs.fields import run_fields
from wandb_submit.server.runs.json_values import best_value
from wandb_submit.server.runs.listing import run_count, runs_page
from wandb_submit.server.runs.run import SELECT as SELECT_RUN
from wandb_submit.server.runs.run import by_name
from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.server.storage.timestamps import iso
from wandb_submit.server.sweeps import sweep
from wandb_submit.server.sweeps.listing import sweeps_page

# An agent that has said nothing for so long is shown as gone; W&B's own say something every 5 s.
_SILENT_AGENT_S = 120


def project(context: Context, arguments: Arguments) -> Mapping[str, object] | None:
    """Query `project`: one project and what it holds; null if there is none of that name."""
    row = find(context.tx, arguments.text("entityName"), arguments.text("name"))
    if row is None:
        if (arguments.text("name") or "").startswith(REGISTRY_PREFIX):
            raise Refusal(NO_REGISTRIES, status=200)
        return None
    number = int(row["id"])

    def one_run(wanted: Arguments) -> Mapping[str, object] | None:
        run = by_name(context.tx, row["entity"], row["name"], wanted.required_text("name"))
        return None if run is None else run_fields(context, run)

    def one_sweep(wanted: Arguments) -> Mapping[str, object] | None:
        found = sweep.find(context.tx, wanted.required_text("sweepName"))
        return sweep_fields(context, found) if found is not None and found["project"] == number else None

    return {
        **project_fields(row),
        **project_artifacts(context, row),
        "run": one_run,
        "runs": lambda wanted: runs_page(context, wanted, project=number),
        "runCount": lambda wanted: run_count(context, wanted, project=number),
        "sweep": one_sweep,
        "sweeps": lambda wanted: sweeps_page(context, wanted, number, lambda found: sweep_fields(context, found)),
        "totalSweeps": lambda _: context.tx.integer("SELECT COUNT(*) FROM sweeps WHERE project = ?", (number,)),
    }


def model(context: Context, arguments: Arguments) -> Mapping[str, object] | None:
    """Query `model`: W&B's old word for a project; what a run that wants to resume looks up."""
    row = find(context.tx, arguments.text("entityName"), arguments.text("name"))
    if row is None:
        return None

    def bucket(wanted: Arguments) -> Mapping[str, object] | None:
        run = by_name(context.tx, row["entity"], row["name"], wanted.required_text("name"))
        return None if run is None else run_fields(context, run)

    return {
        **project_fields(row),
        "bucket": bucket,
        "buckets": lambda wanted: runs_page(context, wanted, project=int(row["id"])),
    }


def sweep_fields(context: Context, row: sqlite3.Row) -> dict[str, object]:
    """A sweep; what takes another query is looked up when asked for."""
    number, config = int(row["number"]), config_of(row)
    metric = Metric.of(config)

    def prior(wanted: Arguments) -> Mapping[str, object]:
        runs = context.tx.rows(
            f"{SELECT_RUN} JOIN prior_runs ON prior_runs.run = runs.id WHERE prior_runs.sweep = ? ORDER BY runs.id",
            (number,),
        )
        return connection("Run", [run_fields(context, run) for run in runs], wanted)

    def agent(wanted: Arguments) -> Mapping[str, object] | None:
        found = context.tx.one(
            "SELECT * FROM agents WHERE id = ? AND sweep = ?", (wanted.required_text("agentName"), number)
        )
        return None if found is None else _agent_fields(context, found)

    def agents(wanted: Arguments) -> Mapping[str, object]:
        rows = context.tx.rows("SELECT * FROM agents WHERE sweep = ? ORDER BY number", (number,))
        return connection("Agent", [_agent_fields(context, found) for found in rows], wanted, whole=True)

    return {
        "__typename": "Sweep",
        "id": row["id"],
        "name": row["id"],
        "displayName": row["display_name"],
        "description": row["description"],
        "method": config.get("method"),
        "state": row["state"],
        "config": row["config"],
        "controller": row["controller"],
        "scheduler": row["scheduler"],
        # The run that `wandb sweep-scheduler` writes its log to.
        "controllerRunName": f"{row['id']}-scheduler",
        "createdAt": iso(row["created_at"]),
        "updatedAt": iso(row["updated_at"]),
        "heartbeatAt": iso(row["heartbeat_at"]),
        "earlyStopJobRunning": False,
        "bestLoss": lambda _: None if metric is None else best_value(context.tx, number, metric),
        "runCount": lambda _: context.tx.integer("SELECT COUNT(*) FROM runs WHERE sweep = ?", (number,)),
        "runCountExpected": min((n for n in (run_cap(config), row["grid_size"]) if n is not None), default=None),
        "priorRuns": prior,
        # W&B's controller has to see all runs, and does not ask for pages. Agents ask alike, and look at none.
        "runs": lambda wanted: runs_page(context, wanted, sweep=number, whole=is_controlled(config)),
        "agent": agent,
        "agents": agents,
    }


def _agent_fields(context: Context, row: sqlite3.Row) -> dict[str, object]:
    number = int(row["number"])
    silent = context.now - row["heartbeat_at"] > _SILENT_AGENT_S
    return {
        "__typename": "Agent",
        "id": row["id"],
        "name": row["id"],
        "host": row["host"],
        "state": "CRASHED" if silent and row["state"] == "RUNNING" else row["state"],
        "createdAt": iso(row["created_at"]),
        "heartbeatAt": iso(row["heartbeat_at"]),
        "totalRuns": lambda _: context.tx.integer("SELECT COUNT(*) FROM runs WHERE agent = ?", (number,)),
        "runs": lambda wanted: runs_page(context, wanted, agent=number),
    }
