"""What `wandb controller` and a sweep's server tell one another, in two JSON texts that are kept with the sweep.

The controller, a program of the user's, writes `controller`: the next run to start (`schedule`, one at a time) and
the runs to stop (`earlystop`). The server writes `scheduler`: which of them became which run. See the docstring of
wandb/wandb_controller.py.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from wandb_submit.server.request.context import Context
from wandb_submit.server.storage.client_json import read_object
from wandb_submit.server.storage.refusals import Refusal

# Runs that were scheduled long ago are of no interest to the controller, and the text is read at every heartbeat.
_REMEMBERED = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheduled:
    """A run that the controller wants started; without parameters, it says that there will be no more."""

    id: str
    point: str | None


def next_scheduled(row: sqlite3.Row) -> Scheduled | None:
    """What the controller wants started and has no run yet."""
    if not row["controller"]:
        return None
    known = {entry.get("id") for entry in _entries(row["scheduler"], "scheduled")}
    for entry in _entries(row["controller"], "schedule"):
        data = entry.get("data")
        if isinstance(entry.get("id"), str) and entry["id"] not in known and isinstance(data, dict):
            args = data.get("args")
            return Scheduled(id=str(entry["id"]), point=json.dumps(args) if isinstance(args, dict) else None)
    return None


def note_scheduled(context: Context, row: sqlite3.Row, scheduled: Scheduled, run: str) -> None:
    """Tells the controller which run it became."""
    entries = [*_entries(row["scheduler"], "scheduled"), {"id": scheduled.id, "runid": run}][-_REMEMBERED:]
    context.tx.execute(
        "UPDATE sweeps SET scheduler = ? WHERE number = ?", (json.dumps({"scheduled": entries}), row["number"])
    )


def checked_controller(text: str | None) -> str | None:
    """The controller's text, if it is one.

    Raises:
        Refusal: if it is not.
    """
    if text is not None and not isinstance(read_object(text, "controller").get("earlystop") or [], list):
        raise Refusal("the earlystop of a controller is a list of runs")
    return text


def stop_early(context: Context, sweep: int, text: str | None) -> None:
    """Asks the runs to stop that the controller wants stopped."""
    names = read_object(text, "controller").get("earlystop") if text else None
    if names:
        context.tx.execute(
            "UPDATE runs SET stop_requested_at = COALESCE(stop_requested_at, ?) WHERE sweep = ?"
            " AND state IN ('pending', 'running') AND name IN (SELECT value FROM json_each(?))",
            (context.steady, sweep, json.dumps(names)),
        )


def _entries(text: str | None, name: str) -> list[Mapping[str, object]]:
    try:
        entries = read_object(text, name).get(name) if text else None
    except Refusal:
        # Tools of other kinds keep texts of their own there.
        return []
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
