"""Runs that somebody puts into a sweep with a config of their own; agents get them before what the search chose."""

from __future__ import annotations

import json
from collections.abc import Mapping

from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.request.context import Context
from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.server.sweeps import sweep


def enqueue_sweep_run(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `enqueueSweepRun`: makes a pending run, which the next agent that asks is given."""
    values = arguments.nested("input")
    row = sweep.find(context.tx, values.required_text("id"))
    if row is None:
        raise Refusal(f"sweep {values.text('id')} not found", status=404)
    if row["state"] in sweep.ENDED:
        raise Refusal(f"Sweep {row['id']} is not running: resume it before a run is put into it")
    point = json.dumps({name: _entry(value) for name, value in (values.json_object("config") or {}).items()})
    name = sweep.new_id()
    context.tx.insert(
        "INSERT INTO runs (project, name, sweep, state, queued, display_name, point, config, created_at, heartbeat_at)"
        " VALUES (?, ?, ?, 'pending', 1, ?, ?, ?, ?, ?)",
        (
            row["project"],
            name,
            row["number"],
            values.text("displayName") or f"{row['id']}-{name}",
            point,
            point,
            context.now,
            context.now,
        ),
    )
    return {"id": name, "runQueueItemId": None, "clientMutationId": None}


def _entry(value: object) -> Mapping[str, object]:
    """A parameter's value as agents get it; W&B's own scheduler writes it so already."""
    return value if isinstance(value, dict) and "value" in value else {"value": value}
