"""Storing what a run sends: its rows of history, its summary, its console, and the word that it has ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from wandb_submit.server.request.context import Context
from wandb_submit.server.runs.history import length
from wandb_submit.server.runs.run import required
from wandb_submit.server.runs.sent import CONSOLE, Row, Sent
from wandb_submit.server.runs.state import state_after_exit
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.server.storage.slices import Doomed, demand_few
from wandb_submit.server.sweeps import sweep

_REPLACE_LINE = "INSERT OR REPLACE INTO console (run, number, line) VALUES (?, ?, ?)"
# States that a run which speaks again can have been put in without its own word.
_GIVEN_UP = ("pending", "crashed", "failed", "preempted")


def take(context: Context, entity: str, project: str, name: str, sent: Sent) -> dict[str, object]:
    """Stores what a client has sent; the answer says whether somebody wants the run to stop.

    Every chunk names the line it starts at and ends its file there, so a chunk that is sent again (its answer was
    lost, or a whole run is sent again) replaces what it brought the first time.

    Raises:
        Refusal: 404 if there is no such run; the client then gives up on its stream.
    """
    run = required(context.tx, entity, project, name)
    if run["preempted_by"] is not None and run["state"] in ("pending", "running") and _is_repeated(run, sent):
        # The answer to its last words was lost, and meanwhile it was handed out again: what they say is known, and
        # they would take back the rows of its new life.
        return {}
    if not sent.parts:
        for stream, (offset, rows) in sent.rows.items():
            _take_rows(context, run["id"], stream, offset, rows)
    if sent.system_metrics is not None:
        context.tx.execute(
            "UPDATE runs SET system_metrics = json_patch(system_metrics, ?) WHERE id = ?",
            (sent.system_metrics, run["id"]),
        )
    if sent.summary is not None:
        context.tx.execute("UPDATE runs SET summary = ? WHERE id = ?", (sent.summary, run["id"]))
    # Unlike the histories, the console changes lines that it has sent (progress bars): only those are replaced.
    context.tx.execute_many(
        _REPLACE_LINE,
        [(run["id"], number, line) for number, line in sent.console],
    )
    _take_state(context, run, sent)
    _tell_search(context, run, sent)
    stop = run["stop_requested_at"] is not None and sent.exit_code is None
    return {"stopped": True} if stop else {}


def _tell_search(context: Context, run: sqlite3.Row, sent: Sent) -> None:
    """A sweep may stop runs that do badly, and end with one that does well."""
    if run["sweep"] is None or not sent.has_progressed:
        return
    first_row = sent.rows["history"][0] if "history" in sent.rows else None
    context.tx.after_commit.append(lambda: context.server.search.progressed(run["sweep"], run["id"], first_row))


def _take_rows(context: Context, run: int, stream: str, offset: int, rows: list[Row]) -> None:
    if length(context.tx, run, stream) > offset:
        context.tx.take_long()
        demand_few(context.tx, beyond(run, stream, offset))
        context.server.history_keys.changed(context.tx, run)
        context.tx.execute("DELETE FROM history WHERE run = ? AND stream = ? AND number >= ?", (run, stream, offset))
    context.tx.execute_many(
        "INSERT INTO history (run, stream, number, step, content) VALUES (?, ?, ?, ?, ?)",
        [(run, stream, number, step, text) for number, step, text in rows],
    )


def beyond(run: int, stream: str, offset: int) -> Doomed:
    """The rows of a history from a number on."""
    return Doomed(table="history", run=run, condition="stream = ? AND number >= ?", parameters=(stream, offset))


def expects(tx: Transaction, entity: str, project: str, name: str, sent: Sent) -> int | None:
    """The number of the run whose lines these are; None if they are known.

    Raises:
        Refusal: 404 if there is no such run.
    """
    run = required(tx, entity, project, name)
    if run["preempted_by"] is not None and run["state"] in ("pending", "running") and _is_repeated(run, sent):
        return None
    return int(run["id"])


def store_lines(tx: Transaction, run: int, lines: Iterable[tuple[str, int, int, str]]) -> None:
    """Stores some lines of a large request: for each the stream, its number, its step and its text."""
    if tx.one("SELECT 1 FROM runs WHERE id = ?", (run,)) is None:
        raise Refusal("the run was deleted meanwhile", status=404)
    lines = list(lines)
    tx.execute_many(
        "INSERT INTO history (run, stream, number, step, content) VALUES (?, ?, ?, ?, ?)",
        [(run, *line) for line in lines if line[0] != CONSOLE],
    )
    tx.execute_many(_REPLACE_LINE, [(run, number, text) for stream, number, _, text in lines if stream == CONSOLE])


def _take_state(context: Context, run: sqlite3.Row, sent: Sent) -> None:
    tx = context.tx
    # How long a run took is told by when it was heard last: its end is written down here, once.
    context.server.heard.of("runs", run["id"], written=sent.exit_code is not None)
    preempting = bool(run["preempting"]) or sent.preempting
    if preempting and not run["preempting"]:
        tx.execute("UPDATE runs SET preempting = 1 WHERE id = ?", (run["id"],))
    if sent.exit_code is not None:
        stop_requested = run["stop_requested_at"] is not None
        state = state_after_exit(sent.exit_code, preempting=preempting, stop_requested=stop_requested)
        tx.execute(
            "UPDATE runs SET state = ?, exit_code = ?, preempted_by = ?, heartbeat_at = ? WHERE id = ?",
            (state, sent.exit_code, sent.fingerprint if state == "preempted" else None, context.now, run["id"]),
        )
        if run["sweep"] is not None:
            sweep.settle(context, run["sweep"])
    elif run["exit_code"] is None and run["state"] in _GIVEN_UP:
        # It was given up and lives: the network, or this server, was away for long.
        tx.execute("UPDATE runs SET state = 'running' WHERE id = ?", (run["id"],))


def _is_repeated(run: sqlite3.Row, sent: Sent) -> bool:
    """Whether these are the words by which the run told its end by preemption, once more."""
    return sent.exit_code is not None and sent.fingerprint == run["preempted_by"]
