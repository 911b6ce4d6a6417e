"""What the API shows of a run."""

from __future__ import annotations

import json
import sqlite3

from wandb_submit.server.artifacts.lineage import run_artifacts
from wandb_submit.server.control.settings import DEFAULT_ENTITY, DEFAULT_PROJECT
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.graphql.executor import ABSENT
from wandb_submit.server.projects.projects import find, project_fields
from wandb_submit.server.projects.viewer import user
from wandb_submit.server.request.context import Context
from wandb_submit.server.request.large_json import entries
from wandb_submit.server.runs import branching, console, history, sampling
from wandb_submit.server.runs.files_listing import file_count, run_files
from wandb_submit.server.runs.run import by_name, storage_id, upsert
from wandb_submit.server.runs.shown_state import shown_state
from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.server.storage.timestamps import iso


def run_fields(context: Context, row: sqlite3.Row) -> dict[str, object]:
    """A run, from a row that `run.SELECT` read; what takes another query is looked up when asked for."""
    tx, run = context.tx, int(row["id"])
    state = row["state"]
    return {
        "__typename": "Run",
        "id": storage_id(row),
        "name": row["name"],
        "displayName": row["display_name"],
        "sweepName": row["sweep_id"],
        "state": shown_state(row),
        "config": row["config"],
        "summaryMetrics": row["summary"],
        "systemMetrics": row["system_metrics"],
        "group": row["run_group"],
        "jobType": row["job_type"],
        "commit": row["git_commit"],
        "host": row["host"],
        "program": row["program"],
        "tags": json.loads(row["tags"]),
        "notes": row["notes"],
        "description": row["description"],
        "readOnly": False,
        "createdAt": iso(row["created_at"]),
        "heartbeatAt": iso(row["heartbeat_at"]),
        "exitcode": row["exit_code"],
        "running": state == "running",
        "failed": state in ("failed", "crashed"),
        "stopped": row["stop_requested_at"] is not None,
        "shouldStop": row["stop_requested_at"] is not None,
        "user": user(),
        "projectId": row["project"],
        "project": lambda _: _project(context, row),
        "historyKeys": lambda _: context.server.history_keys.of(tx, run),
        "historyLineCount": lambda _: history.length(tx, run, "history"),
        "eventsLineCount": lambda _: history.length(tx, run, "events"),
        "logLineCount": lambda _: console.count(tx, run),
        "logLines": lambda arguments: console.log_lines(tx, run, arguments),
        "historyTail": lambda _: history.tail(tx, run, "history"),
        "eventsTail": lambda _: history.tail(tx, run, "events"),
        "history": lambda arguments: sampling.sampled(tx, run, "history", arguments),
        "events": lambda arguments: sampling.sampled(tx, run, "events", arguments),
        "sampledHistory": lambda arguments: sampling.series(tx, run, arguments),
        "parquetHistory": lambda arguments: sampling.exported(tx, run, arguments),
        "wandbConfig": lambda _: _wandb_config(row),
        "inputArtifacts": lambda wanted: run_artifacts(context, run, wanted, used=True),
        "outputArtifacts": lambda wanted: run_artifacts(context, run, wanted, used=False),
        "files": lambda arguments: run_files(context, row, arguments),
        "fileCount": lambda _: file_count(context, row),
        # Of launch.
        "runInfo": ABSENT,
    }


def upsert_bucket(context: Context, arguments: Arguments) -> dict[str, object]:
    """Mutation `upsertBucket`: W&B's old word for a run.

    A client would append its history after `historyLineCount` lines. One that resumes has asked for the number
    before (query `model`), a fork's history begins with the other run's; any other starts a new history, also when it
    sends an old one again.
    """
    values = arguments.nested("input")
    row, inserted = upsert(context, values)
    shared = branching.fork(context, row, entries(values.json_text("config") or "{}", "config"), is_new=inserted)
    return {"bucket": {**run_fields(context, row), "historyLineCount": shared}, "inserted": inserted}


def rewind_run(context: Context, arguments: Arguments) -> dict[str, object]:
    """Mutation `rewindRun`: what `resume_from` asks for before it starts the run again."""
    values = arguments.nested("input")
    if values.required_text("metricName") != "_step":
        raise Refusal(f"a run can be rewound to a _step, not to a {values.text('metricName')!r:.60}")
    place = values.text("entityName") or DEFAULT_ENTITY, values.text("projectName") or DEFAULT_PROJECT
    row = by_name(context.tx, *place, values.required_text("runName"))
    if row is None:
        raise Refusal(f"run {values.text('runName')!r:.140} not found", status=404)
    branching.rewind(context, row, values.number("metricValue"))
    return {"rewoundRun": run_fields(context, row), "clientMutationId": None}


def _project(context: Context, row: sqlite3.Row) -> dict[str, object] | None:
    project = find(context.tx, row["entity_name"], row["project_name"])
    return None if project is None else project_fields(project)


def _wandb_config(row: sqlite3.Row) -> str:
    """The client's own part of the config; a run that lacks its `t` counts as never started."""
    entry = json.loads(row["config"]).get("_wandb")
    own = entry.get("value") if isinstance(entry, dict) else None
    return json.dumps({"t": own["t"]} if isinstance(own, dict) and "t" in own else {})
