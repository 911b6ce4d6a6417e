"""The server's clock: it writes down who was heard of, and gives up on runs that have gone silent."""

from __future__ import annotations

import asyncio
import logging
import sqlite3

from wandb_submit.server.request.context import Context, ServerFacts
from wandb_submit.server.runs.state import DECISIVE, end_without_exit, give_back, kill_waiting
from wandb_submit.server.storage.database import Database, Transaction
from wandb_submit.server.sweeps import sweep

_log = logging.getLogger(__name__)
_PERIOD_S = 1.0


class Watch:
    """Looks after a server's runs once a second."""

    def __init__(self, database: Database, server: ServerFacts) -> None:
        self._database = database
        self._server = server
        # Since when (steady time) the agents of runs no longer report them; by the run and the mark that says so.
        self._gone: dict[tuple[int, float], float] = {}
        self._failing = False

    async def run(self) -> None:
        """Looks every second, until cancelled."""
        while True:
            await asyncio.sleep(_PERIOD_S)
            try:
                await self.look()
            except sqlite3.Error as error:
                # Once, not every second, for as long as a disk stays full.
                if not self._failing:
                    _log.warning("cannot look after runs now: %s", error)
                self._failing = True
            else:
                self._failing = False

    async def look(self) -> None:
        """Writes down who was heard of, forgets unused lists, and gives up on runs that are silent for too long."""
        heard = self._server.heard
        if heard.is_due():
            await self._database.write(heard.write, long=heard.takes_long())
        self._server.kept_lists.tidy()
        live = await self._database.read(_live)
        heard.forget_runs_but({run["id"] for run in live})
        silent = self._silent(live)
        if silent:
            await self._database.write(lambda tx: self._give_up(tx, silent))

    def _silent(self, runs: list[sqlite3.Row]) -> set[int]:
        """Those of the live runs to give up on: silent for long, or for a little while after their agent lost them.

        A run that its agent reports is not silent while it has not begun: it may load for long before wandb.init.
        """
        settings, steady, heard = self._server.settings, self._server.clock.steady(), self._server.heard
        self._gone = {
            (run["id"], run["gone_at"]): self._gone.get((run["id"], run["gone_at"]), steady)
            for run in runs
            if run["gone_at"] is not None
        }
        silent = set()
        for run in runs:
            silence_s = heard.silence_s("runs", run["id"])
            if run["state"] == "pending":
                silence_s = min(silence_s, heard.silence_s("agents", run["agent"]))
            gone_s = steady - self._gone.get((run["id"], run["gone_at"]), steady)
            gone = run["state"] == "running" and min(gone_s, silence_s) > settings.gone_grace_s
            if gone or silence_s > settings.crash_after_s:
                silent.add(run["id"])
        return silent

    def _give_up(self, tx: Transaction, silent: set[int]) -> None:
        context = Context(tx=tx, server=self._server, base_url="")
        # Looked at again: one of them may have spoken or ended since they were read.
        silent &= self._silent(_live(tx))
        for number in silent:
            run = tx.one(f"SELECT {DECISIVE} FROM runs WHERE id = ?", (number,))  # noqa: S608 - a constant
            assert run is not None  # noqa: S101 - it was read in this transaction
            if run["state"] == "pending" and run["sweep"] is not None:
                give_back(context, run)
            else:
                end_without_exit(context, run)
            if run["sweep"] is not None:
                if sweep.by_number(tx, run["sweep"])["state"] in sweep.ENDED:
                    kill_waiting(context, sweep=run["sweep"])
                sweep.settle(context, run["sweep"])


def _live(tx: Transaction) -> list[sqlite3.Row]:
    """The runs that somebody should speak for; a pending one without an agent waits in silence."""
    return tx.rows(
        "SELECT id, state, agent, gone_at FROM runs"
        " WHERE state = 'running' OR (state = 'pending' AND agent IS NOT NULL)"
    )
