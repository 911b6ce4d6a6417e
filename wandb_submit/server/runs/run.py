"""A run's record: finding it, creating and changing it, stopping and deleting it."""

from __future__ import annotations

import asyncio
import base64
import errno
import functools
import json
import secrets
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.projects.projects import checked_name, find_or_create
from wandb_submit.server.request.context import Context
from wandb_submit.server.request.large_json import over
from wandb_submit.server.request.uploads import UPLOADS
from wandb_submit.server.runs.state import DECISIVE, ENDED, LIVE, kill_waiting
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.server.storage.slices import Doomed, demand_few
from wandb_submit.server.sweeps import search, sweep

# A run with what belongs to it; every run that is shown was read by this.
SELECT = (
    "SELECT runs.*, projects.entity AS entity_name, projects.name AS project_name, sweeps.id AS sweep_id FROM runs"
    " JOIN projects ON projects.id = runs.project LEFT JOIN sweeps ON sweeps.number = runs.sweep"
)
# The run's columns that `upsertBucket` sets just as they are given.
_COLUMNS = {
    "displayName": "display_name",
    "description": "description",
    "notes": "notes",
    "groupName": "run_group",
    "jobType": "job_type",
    "commit": "git_commit",
    "jobRepo": "git_remote",
    "jobProgram": "program",
    "host": "host",
}
# What `updateRunState` may change, by the new state (wandb/apis/public/runs.py, Run.update_state).
_TRANSITIONS = {
    "pending": ("running", "failed", "crashed", "preempted"),
    "failed": ("pending", "running"),
}


def storage_id(row: sqlite3.Row) -> str:
    """A run's id in the API, where `name` is what people call its id. Opaque to clients."""
    return base64.b64encode(f"Run:v1:{row['id']}".encode()).decode()


def by_storage_id(tx: Transaction, text: str) -> sqlite3.Row | None:
    """The run of that API id."""
    number = _number(text)
    return None if number is None else tx.one(f"{SELECT} WHERE runs.id = ?", (number,))


def _number(storage_id: str) -> int | None:
    try:
        kind, _, number = base64.b64decode(storage_id, validate=True).decode().rpartition(":")
    except ValueError:
        return None
    return int(number) if kind == "Run:v1" and number.isdecimal() else None


def by_name(tx: Transaction, entity: str, project: str, name: str) -> sqlite3.Row | None:
    """The run of that name in that project."""
    return tx.one(
        f"{SELECT} WHERE projects.entity = ? AND projects.name = ? AND runs.name = ?", (entity, project, name)
    )


def required(tx: Transaction, entity: str, project: str, name: str) -> sqlite3.Row:
    """The `DECISIVE` columns of the run of that name in that project.

    Raises:
        Refusal: 404 if there is no such run.
    """
    row = tx.one(
        f"SELECT {DECISIVE} FROM runs WHERE name = ?"  # noqa: S608 - a constant
        " AND project = (SELECT id FROM projects WHERE entity = ? AND name = ?)",
        (name, entity, project),
    )
    if row is None:
        raise Refusal(f"run {entity}/{project}/{name:.140} not found", status=404)
    return row


def upsert(context: Context, values: Arguments) -> tuple[sqlite3.Row, bool]:
    """Creates a run or changes it, as `upsertBucket` asks; returns it and whether it is new to its client.

    The call with a `host` is a run's first: W&B's clients send it from `wandb.init`.
    """
    row, inserted = _found_or_inserted(context, values)
    changes: dict[str, object] = {
        column: values.text(name) for name, column in _COLUMNS.items() if values.text(name) is not None
    }
    tags = values.texts("tags")
    if tags is not None:
        changes["tags"] = json.dumps(tags)
    config = values.json_text("config")
    if config is not None:
        # The sweep's own values stay, should a client's config lack them.
        changes["config"] = over(config, json.loads(row["point"] or "{}"), "config")
    summary = values.json_text("summaryMetrics")
    if summary is not None:
        changes["summary"] = over(summary, {}, "summaryMetrics")
    if values.text("sweep") is not None:
        changes["sweep"] = _sweep_number(context, values.required_text("sweep"))
    started = values.text("host") is not None and row["state"] != "running"
    state = values.text("state")
    if started or (inserted and state is None):
        changes.update(state="running", exit_code=None, preempting=0, gone_at=None)
        if row["state"] in ENDED:
            # Somebody starts it again: the request to stop was for its earlier life.
            changes["stop_requested_at"] = None
    elif state is not None:
        if state not in (*LIVE, *ENDED):
            raise Refusal(f"a run's state cannot be {state!r:.60}: it is one of {', '.join((*LIVE, *ENDED))}")
        changes["state"] = state
    changes["heartbeat_at"] = context.now
    context.server.heard.of("runs", row["id"], written=True)
    assignments = ", ".join(f"{column} = ?" for column in changes)
    context.tx.execute(
        f"UPDATE runs SET {assignments} WHERE id = ?",  # noqa: S608 - the columns are named in this file
        (*changes.values(), row["id"]),
    )
    changed = context.tx.one(f"{SELECT} WHERE runs.id = ?", (row["id"],))
    assert changed is not None  # noqa: S101 - changed in this transaction
    if "state" in changes and changed["sweep"] is not None:
        sweep.settle(context, changed["sweep"])
    return changed, inserted or row["state"] == "pending"


def _found_or_inserted(context: Context, values: Arguments) -> tuple[sqlite3.Row, bool]:
    given = values.text("id")
    if given is not None:
        row = by_storage_id(context.tx, given)
        if row is None:
            raise Refusal(f"run {given} not found", status=404)
        return row, False
    project = find_or_create(context, values.text("entityName"), values.text("modelName"))
    name = checked_name("a run", values.text("name") or sweep.new_id())
    row = by_name(context.tx, project["entity"], project["name"], name)
    if row is not None:
        return row, False
    ordinal = context.tx.integer("SELECT COUNT(*) FROM runs WHERE project = ?", (project["id"],)) + 1
    context.tx.execute(
        "INSERT INTO runs (project, name, state, display_name, created_at, heartbeat_at)"
        " VALUES (?, ?, 'running', ?, ?, ?)",
        (project["id"], name, f"run-{ordinal}", context.now, context.now),
    )
    row = by_name(context.tx, project["entity"], project["name"], name)
    assert row is not None  # noqa: S101 - inserted in this transaction
    return row, True


def _sweep_number(context: Context, sweep_id: str) -> int:
    found = sweep.find(context.tx, sweep_id)
    if found is None:
        raise Refusal(f"sweep {sweep_id} not found", status=404)
    return int(found["number"])


def stop_run(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `stopRun`: asks a run to stop; it learns of it with its next upload."""
    row = by_storage_id(context.tx, arguments.nested("input").required_text("id"))
    if row is None:
        raise Refusal("run not found", status=404)
    context.tx.execute(
        "UPDATE runs SET stop_requested_at = COALESCE(stop_requested_at, ?)"
        " WHERE id = ? AND state IN ('pending', 'running')",
        (context.steady, row["id"]),
    )
    kill_waiting(context, run=row["id"])
    if row["sweep"] is not None:
        sweep.settle(context, row["sweep"])
    return {"success": True, "clientMutationId": None}


def update_run_state(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `updateRunState`: queues a run anew or gives up on it, where the states allow that."""
    values = arguments.nested("input")
    row = by_storage_id(context.tx, values.required_text("id"))
    if row is None:
        raise Refusal("run not found", status=404)
    wanted, state = values.required_text("state"), str(row["state"])
    if row["sweep"] is not None:
        raise Refusal("invalid state transition: the state of a sweep's run is the sweep's")
    if state not in _TRANSITIONS.get(wanted, ()):
        raise Refusal(f"invalid state transition: a run that is {state} cannot become {wanted[:40]}")
    context.tx.execute("UPDATE runs SET state = ?, preempting = 0 WHERE id = ?", (wanted, row["id"]))
    return {"success": True, "clientMutationId": None}


def delete_run(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `deleteRun`: forgets a run and its files. One that was there and is gone is deleted, as at W&B."""
    given = arguments.nested("input").required_text("id")
    row = by_storage_id(context.tx, given)
    if row is None:
        newest = context.tx.integer("SELECT seq FROM sqlite_sequence WHERE name = 'runs'")
        if (_number(given) or newest + 1) > newest:
            raise Refusal("run not found", status=404)
        return {"clientMutationId": None}
    context.tx.take_long()
    demand_few(context.tx, *(Doomed(table=table, run=row["id"], condition="1") for table in ("console", "history")))
    room = row["sweep"] is not None and _makes_room(context, row["sweep"])
    for table in ("history", "console", "files", "artifact_runs", "alerts"):
        context.tx.execute(f"DELETE FROM {table} WHERE run = ?", (row["id"],))  # noqa: S608 - constants
    context.tx.execute("DELETE FROM runs WHERE id = ?", (row["id"],))
    if row["sweep"] is not None:
        if room:
            search.make_room(context, sweep.by_number(context.tx, row["sweep"]), row["id"])
        sweep.settle(context, row["sweep"])
    folder = context.server.settings.data_dir / "files" / row["entity_name"] / row["project_name"] / row["name"]
    trash = context.server.settings.data_dir / UPLOADS / secrets.token_hex(8)
    context.tx.after_commit.append(lambda: _remove_in_background(folder, trash))
    return {"clientMutationId": None}


def _makes_room(context: Context, number: int) -> bool:
    """Whether a sweep is to get another run for one that is deleted: not if it has reached its target."""
    row = sweep.by_number(context.tx, number)
    return not row["exhausted"] or search.is_spent(context.tx, row)


def _remove_in_background(folder: Path, trash: Path) -> None:
    """Removes a folder without keeping the event loop, which calls this, from its other work.

    It is moved away first: the next request may make a run of the same name.
    """
    try:
        trash.parent.mkdir(exist_ok=True)
        folder.rename(trash)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # The files are on another file system, by a link. No run can have this name.
        trash = folder.with_name(f"#{trash.name}")
        folder.rename(trash)
    remove = functools.partial(shutil.rmtree, trash, ignore_errors=True)
    asyncio.get_running_loop().run_in_executor(None, remove)
