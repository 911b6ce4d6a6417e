"""A sweep's record: creating, changing, finding it."""

from __future__ import annotations

import json
import secrets
import sqlite3
import string
from collections.abc import Callable, Iterable, Mapping

from wandb_submit.errors import SEARCH_AWAY, UnavailableError
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.projects.projects import find_or_create, project_fields
from wandb_submit.server.request.context import Context, Preparing, Resolver
from wandb_submit.server.request.engine_answers import Drawn, Proposal
from wandb_submit.server.runs.state import LIVE, kill_waiting
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.server.sweeps.controller import checked_controller, stop_early
from wandb_submit.server.sweeps.prior_runs import adopt, find_prior_runs

# A sweep is PENDING until its first agent comes. W&B's clients set the others: `--stop` FINISHED, `--cancel`
# CANCELED, `--pause` PAUSED, `--resume` RUNNING.
STATES = frozenset({"PENDING", "RUNNING", "PAUSED", "FINISHED", "CANCELED"})
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


def settle(context: Context, number: int) -> None:
    """Ends a sweep without further points once the last of its runs has ended; called when one may have."""
    context.tx.execute(
        "UPDATE sweeps SET state = 'FINISHED' WHERE number = ? AND exhausted = 1 AND state IN ('RUNNING', 'PENDING')"
        " AND NOT EXISTS (SELECT 1 FROM runs WHERE sweep = sweeps.number AND state IN (?, ?, ?))",
        (number, *LIVE),
    )
    # Bayes learns from the run that has ended.
    context.tx.after_commit.append(lambda: context.server.search.wake(number))


async def prepare_upsert_sweep(preparing: Preparing, arguments: Arguments) -> Resolver:
    """Mutation `upsertSweep`: creates a sweep, or changes the one with the given id.

    Here the search process looks at the config and draws the first points, which are kept in the transaction to
    come: a sweep is there with its points or not at all.
    """
    values = arguments.nested("input")
    text, sweep_id = values.text("config"), values.text("id")
    if sweep_id is None:
        text = values.required_text("config")
    row, (prior, missing) = await preparing.database.read(
        lambda tx: (None if sweep_id is None else find(tx, sweep_id), find_prior_runs(tx, values))
    )
    if text is None or (sweep_id is not None and (row is None or row["config"] == text)):
        return _upserted(lambda context: _change(context, values, None))
    try:
        number, proposal = await preparing.server.search.propose(
            text, sweep=None if row is None else int(row["number"]), prior=prior
        )
    except UnavailableError as error:
        raise Refusal(f"{SEARCH_AWAY}: {error}") from error
    if proposal.verdict.errors:
        raise Refusal("Invalid sweep config: " + "; ".join(proposal.verdict.errors))
    if row is None:
        return _upserted(lambda context: _create(context, values, number, proposal, prior), missing, proposal)
    return _upserted(lambda context: _change(context, values, proposal), (), proposal)


def _upserted(
    work: Callable[[Context], str], warnings: Iterable[str] = (), proposal: Proposal | None = None
) -> Resolver:
    """The mutation's answer, after `work`, which returns the sweep's id."""
    told = [*warnings, *(() if proposal is None else proposal.verdict.warnings)]

    def resolve(context: Context, _: Arguments) -> Mapping[str, object]:
        row = find(context.tx, work(context))
        assert row is not None  # noqa: S101 - created or changed just now
        project = context.tx.one("SELECT * FROM projects WHERE id = ?", (row["project"],))
        assert project is not None  # noqa: S101 - a foreign key
        # There may be room for points, and a sweep that was told to go on may need some.
        context.tx.after_commit.append(lambda: context.server.search.wake(int(row["number"])))
        fields = {"__typename": "Sweep", "id": row["id"], "name": row["id"], "state": row["state"]}
        return {"sweep": {**fields, "project": project_fields(project)}, "configValidationWarnings": told}

    return resolve


def _create(context: Context, values: Arguments, number: int, proposal: Proposal, prior: list[int]) -> str:
    project = find_or_create(context, values.text("entityName"), values.text("projectName"))
    sweep_id = new_id()
    context.tx.execute(
        "INSERT INTO sweeps (number, id, project, config, display_name, description, controller, scheduler, state,"
        " created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            number,
            sweep_id,
            project["id"],
            values.required_text("config"),
            values.text("displayName"),
            values.text("description"),
            checked_controller(values.text("controller")),
            values.text("scheduler"),
            _state(values) or "PENDING",
            context.now,
            context.now,
        ),
    )
    adopt(context.tx, number, prior)
    _take(context, number, proposal)
    return sweep_id


def _change(context: Context, values: Arguments, proposal: Proposal | None) -> str:
    sweep_id = values.required_text("id")
    row = find(context.tx, sweep_id)
    if row is None:
        raise Refusal(f"sweep {sweep_id} not found", status=404)
    number, state = int(row["number"]), _state(values)
    checked_controller(values.text("controller"))
    if proposal is not None:
        context.tx.execute(
            "UPDATE sweeps SET config = ?, exhausted = 0 WHERE number = ?", (values.required_text("config"), number)
        )
        _take(context, number, proposal)
    context.tx.execute(
        "UPDATE sweeps SET state = COALESCE(?, state), display_name = COALESCE(?, display_name),"
        " description = COALESCE(?, description), controller = COALESCE(?, controller),"
        " scheduler = COALESCE(?, scheduler), updated_at = ? WHERE number = ?",
        (
            state,
            *(values.text(name) for name in ("displayName", "description", "controller", "scheduler")),
            context.now,
            number,
        ),
    )
    if row["state"] in ENDED and state is not None and state not in ENDED:
        # As at W&B, it goes on until an agent asks for a run in vain.
        context.tx.execute("UPDATE sweeps SET exhausted = 0 WHERE number = ?", (number,))
    stop_early(context, number, values.text("controller"))
    if state == "CANCELED":
        context.tx.execute(
            "UPDATE runs SET stop_requested_at = COALESCE(stop_requested_at, ?)"
            " WHERE sweep = ? AND state IN ('pending', 'running')",
            (context.steady, number),
        )
    if state in ENDED:
        kill_waiting(context, sweep=number)
    # Its last run may have ended while it was paused, and no agent may be left to ask.
    settle(context, number)
    return sweep_id


def _take(context: Context, number: int, proposal: Proposal) -> None:
    """Replaces a sweep's points that were not handed out by those of its new config."""
    tx, drawn = context.tx, proposal.drawn
    tx.execute("DELETE FROM points INDEXED BY waiting_points WHERE sweep = ? AND run IS NULL", (number,))
    first = tx.integer("SELECT MAX(number) FROM points WHERE sweep = ?", (number,)) + 1
    if first != proposal.first:
        # A point of the old config was handed out meanwhile, and may be among the new ones: they are drawn anew.
        drawn = Drawn()
    tx.execute(
        "UPDATE sweeps SET outline = ?, grid_size = ?, drawn = ?, next_block = ?, config_since = ? WHERE number = ?",
        (proposal.outline, proposal.verdict.grid_size, int(drawn.done), drawn.next_block, first, number),
    )
    tx.execute_many(
        "INSERT INTO points (sweep, number, config) VALUES (?, ?, ?)",
        [(number, first + offset, json.dumps(point)) for offset, point in enumerate(drawn.points)],
    )


def _state(values: Arguments) -> str | None:
    state = values.text("state")
    if state is None:
        return None
    # W&B's own name for a stopped sweep, which some of its tools send.
    wanted = {"STOPPED": "FINISHED", "CANCELLED": "CANCELED"}.get(state.upper(), state.upper())
    if wanted not in STATES:
        raise Refusal(f"a sweep's state cannot be {state!r}: it is one of {', '.join(sorted(STATES))}")
    return wanted
