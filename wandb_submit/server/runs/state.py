"""The states of a run, and what moves it from one to another."""

from __future__ import annotations

import logging
import sqlite3

from wandb_submit.server.request.context import Context

_log = logging.getLogger(__name__)

# A run of these may still show something; `preempted` waits to be resumed.
LIVE = ("pending", "running", "preempted")
# One of these is over, unless somebody starts it again.
ENDED = ("finished", "failed", "crashed", "killed")
# The columns that decide about a run. Of the others, some can be megabytes long. SQLite goes through those for whatever
# comes after them in the table, unless that is NULL, 0 or 1, as all of these are while a run is at work.
DECISIVE = (
    "id, name, sweep, agent, state, exit_code, preempting, stop_requested_at, reported, gone_at, given_back,"
    " preempted_by"
)

# A sweep's run that no agent has: preempted, given back by an agent that vanished before the run began, or put into
# the sweep by somebody.
WAITING = (
    "runs.sweep IS NOT NULL AND (runs.state = 'preempted'"
    " OR (runs.state = 'pending' AND runs.agent IS NULL AND (runs.given_back > 0 OR runs.queued)))"
)

# A run that so many agents took and vanished with may be what makes them vanish.
_MAX_GIVEN_BACK = 3
# Exit codes that wandb's client sends for an interrupted run (KeyboardInterrupt) and an aborted one.
_INTERRUPTED = 255
_ABORTED = 254


def state_after_exit(exit_code: int, *, preempting: bool, stop_requested: bool) -> str:
    """The state of a run that has told its end."""
    if exit_code == 0:
        return "finished"
    if preempting and not stop_requested:
        return "preempted"
    if exit_code == _INTERRUPTED or stop_requested:
        return "killed"
    return "crashed" if exit_code == _ABORTED else "failed"


def state_without_exit(run: sqlite3.Row) -> str:
    """The state of a run that is over, as far as can be told, and never said so."""
    if run["stop_requested_at"] is not None:
        return "killed"
    if run["state"] == "pending":
        return "failed"
    return "preempted" if run["preempting"] else "crashed"


def end_without_exit(context: Context, run: sqlite3.Row) -> None:
    """Gives up on a run that does not say anything any more."""
    context.tx.execute("UPDATE runs SET state = ?, gone_at = NULL WHERE id = ?", (state_without_exit(run), run["id"]))


def give_back(context: Context, run: sqlite3.Row, *, vanished: bool = True) -> None:
    """Takes a run that never began from an agent that vanished or took its leave, for the next agent that asks."""
    if run["stop_requested_at"] is not None:
        end_without_exit(context, run)
    elif vanished and run["given_back"] + 1 >= _MAX_GIVEN_BACK:
        _log.warning(
            "run %s has failed: %d agents have taken it and vanished before it began", run["name"], _MAX_GIVEN_BACK
        )
        end_without_exit(context, run)
    else:
        context.tx.execute(
            "UPDATE runs SET agent = NULL, given_back = MAX(given_back + ?, 1), reported = 0, gone_at = NULL"
            " WHERE id = ?",
            (int(vanished), run["id"]),
        )


def kill_waiting(context: Context, *, run: int | None = None, sweep: int | None = None) -> None:
    """Ends one run, or all runs of a sweep, that wait for an agent: none is to have them any more."""
    context.tx.execute(
        f"UPDATE runs SET state = 'killed' WHERE (id = ? OR sweep = ?) AND {WAITING}",  # noqa: S608 - a constant
        (run, sweep),
    )
