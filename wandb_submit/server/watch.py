"""The server's clock: it gives up on runs that have gone silent."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time

from wandb_submit.server.context import Context, ServerFacts
from wandb_submit.server.database import Database, Transaction
from wandb_submit.server.runs.state import end_without_exit, give_back, kill_waiting
from wandb_submit.server.sweeps import sweep

_log = logging.getLogger(__name__)
_PERIOD_S = 1.0


async def watch(database: Database, server: ServerFacts) -> None:
    """Looks for silent runs every second, until cancelled."""
    while True:
        await asyncio.sleep(_PERIOD_S)
        try:
            if await database.read(lambda tx: _silent(tx, server, time.time())):
                await database.write(lambda tx: _give_up(tx, server))
        except sqlite3.Error as error:
            _log.warning("cannot look for silent runs now: %s", error)


def _silent(tx: Transaction, server: ServerFacts, now: float) -> list[sqlite3.Row]:
    """The runs to give up on: silent for long, or for a little while after their agent stopped reporting them.

    A run that its agent reports is not silent while it has not begun: it may load for long before wandb.init.
    Silence counts from this process's start at the earliest: before it, nobody could be heard.
    """
    settings = server.settings
    return tx.rows(
        "SELECT runs.* FROM runs LEFT JOIN agents ON agents.number = runs.agent"
        " WHERE (runs.state = 'running' AND MAX(runs.heartbeat_at, :started) < :now - :crash_after)"
        " OR (runs.state = 'pending'"
        "     AND MAX(agents.heartbeat_at, runs.heartbeat_at, :started) < :now - :crash_after)"
        " OR (runs.state = 'running'"
        "     AND MAX(runs.gone_at, runs.heartbeat_at, :started) < :now - :grace)",
        {
            "started": server.started_at,
            "now": now,
            "crash_after": settings.crash_after_s,
            "grace": settings.gone_grace_s,
        },
    )


def _give_up(tx: Transaction, server: ServerFacts) -> None:
    context = Context(tx=tx, server=server, base_url="")
    runs = _silent(tx, server, context.now)
    for run in runs:
        if run["state"] == "pending" and run["sweep"] is not None:
            give_back(context, run)
        else:
            end_without_exit(context, run)
    for number in {run["sweep"] for run in runs if run["sweep"] is not None}:
        if sweep.by_number(tx, number)["state"] in sweep.ENDED:
            kill_waiting(context, sweep=number)
        sweep.settle(context, number)
