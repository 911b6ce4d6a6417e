"""A sweep's record: creating, changing, finding it."""

from __future__ import annotations

import secrets
import sqlite3
import string
from collections.abc import Mapping

from wandb_submit.server.context import Context
from wandb_submit.server.database import Transaction
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.projects import find_or_create, project_fields
from wandb_submit.server.refusals import Refusal
from wandb_submit.server.runs.state import LIVE, kill_waiting
from wandb_submit.server.sweeps import engine

# What W&B's clients set: `--stop` FINISHED, `--cancel` CANCELED, `--pause` PAUSED, `--resume` RUNNING.
STATES = frozenset({"RUNNING", "PAUSED", "FINISHED", "CANCELED"})
ENDED = frozenset({"FINISHED", "CANCELED"})
_ALPHABET = string.ascii_lowercase + string.digits


def new_id() -> str:
    """A fresh id in W&B's form, for a sweep, run or agent."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))


def find(tx: Transaction, sweep_id: str) -> sqlite3.Row | None:
    """The sweep of that id."""
    return tx.one("SELECT * FROM sweeps WHERE id = ?", (sweep_id,))


def by_number(tx: Transaction, number: int) -> sqlite3.Row:
    """A sweep that is known to exist."""
    row = tx.one("SELECT * FROM sweeps WHERE number = ?", (number,))
    assert row is not None  # noqa: S101 - a foreign key
    return row


def settle(tx: Transaction, number: int) -> None:
    """Ends a sweep without further points once the last of its runs has ended."""
    tx.execute(
        "UPDATE sweeps SET state = 'FINISHED' WHERE number = ? AND exhausted = 1 AND state = 'RUNNING' AND NOT EXISTS"
        " (SELECT 1 FROM runs WHERE sweep = sweeps.number AND state IN (?, ?, ?))",
        (number, *LIVE),
    )


def upsert_sweep(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `upsertSweep`: creates a sweep, or changes the one with the given id."""
    values = arguments.nested("input")
    sweep_id = values.text("id")
    if sweep_id is None:
        sweep_id, warnings = _create(context, values)
    else:
        warnings = _change(context, values, sweep_id)
    row = find(context.tx, sweep_id)
    assert row is not None  # noqa: S101 - created or found above
    project = context.tx.one("SELECT * FROM projects WHERE id = ?", (row["project"],))
    assert project is not None  # noqa: S101 - a foreign key
    fields = {"__typename": "Sweep", "id": row["id"], "name": row["id"], "state": row["state"]}
    return {"sweep": {**fields, "project": project_fields(project)}, "configValidationWarnings": warnings}


def _create(context: Context, values: Arguments) -> tuple[str, list[str]]:
    text = values.required_text("config")
    warnings = _checked(text)
    project = find_or_create(context, values.text("entityName"), values.text("projectName"))
    sweep_id = new_id()
    # W&B starts with PENDING, but its own command line refuses to pause a sweep in that state.
    context.tx.execute(
        "INSERT INTO sweeps (id, project, config, display_name, description, controller, scheduler, state, created_at,"
        " updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            sweep_id,
            project["id"],
            text,
            values.text("displayName"),
            values.text("description"),
            values.text("controller"),
            values.text("scheduler"),
            _state(values) or "RUNNING",
            context.now,
            context.now,
        ),
    )
    return sweep_id, warnings


def _change(context: Context, values: Arguments, sweep_id: str) -> list[str]:
    row = find(context.tx, sweep_id)
    if row is None:
        raise Refusal(f"sweep {sweep_id} not found", status=404)
    warnings: list[str] = []
    text, state = values.text("config"), _state(values)
    if text is not None and text != row["config"]:
        warnings = _checked(text)
        # What was chosen under the old config and not handed out yet is chosen anew.
        context.tx.execute("DELETE FROM points WHERE sweep = ? AND run IS NULL", (row["number"],))
        context.tx.execute("UPDATE sweeps SET config = ?, exhausted = 0 WHERE number = ?", (text, row["number"]))
    context.tx.execute(
        "UPDATE sweeps SET state = COALESCE(?, state), display_name = COALESCE(?, display_name),"
        " description = COALESCE(?, description), updated_at = ? WHERE number = ?",
        (state, values.text("displayName"), values.text("description"), context.now, row["number"]),
    )
    if state == "CANCELED":
        context.tx.execute(
            "UPDATE runs SET stop_requested_at = COALESCE(stop_requested_at, ?)"
            " WHERE sweep = ? AND state IN ('pending', 'running')",
            (context.now, row["number"]),
        )
    if state in ENDED:
        kill_waiting(context, sweep=row["number"])
    # Its last run may have ended while it was paused, and no agent may be left to ask.
    settle(context.tx, row["number"])
    return warnings


def _state(values: Arguments) -> str | None:
    state = values.text("state")
    if state is None:
        return None
    # W&B's own name for a stopped sweep, which some of its tools send.
    wanted = {"STOPPED": "FINISHED", "CANCELLED": "CANCELED", "PENDING": "RUNNING"}.get(state.upper(), state.upper())
    if wanted not in STATES:
        raise Refusal(f"a sweep's state cannot be {state!r}: it is one of {', '.join(sorted(STATES))}")
    return wanted


def _checked(text: str) -> list[str]:
    """The warnings about a config that can be searched.

    Raises:
        Refusal: if it cannot; with all that is wrong.
    """
    try:
        config = engine.parse_config(text)
    except ValueError as error:
        raise Refusal(str(error)) from error
    verdict = engine.judge(config)
    problems = list(verdict.errors)
    cap = config.get("run_cap")
    if cap is not None and (not isinstance(cap, int) or isinstance(cap, bool) or cap < 1):
        problems.append(f"run_cap must be a whole number from 1 on, not {cap!r}")
    if problems:
        raise Refusal("Invalid sweep config: " + "; ".join(dict.fromkeys(problems)))
    warnings = list(verdict.warnings)
    if "early_terminate" in config:
        warnings.append("early_terminate is not applied by the offline sweep server yet: every run goes to its end")
    return warnings
