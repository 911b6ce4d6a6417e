"""Sweep agents: registering, heartbeats, and the orders that they are answered with."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping

from wandb_submit.server.context import Context
from wandb_submit.server.database import Transaction
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.refusals import Refusal
from wandb_submit.server.runs.state import end_without_exit
from wandb_submit.server.sweeps import search, sweep
from wandb_submit.server.sweeps.orders import Order, give_new, give_preempted, order

# Parsed once per agent and heartbeat; W&B's agents name one run, an agent of several trials a few.
_MAX_REPORTED = 1000


def create_agent(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `createAgent`: registers an agent with a sweep that is still going on."""
    values = arguments.nested("input")
    sweep_id = values.required_text("sweep")
    row = sweep.find(context.tx, sweep_id)
    if row is None:
        raise Refusal(f"sweep {sweep_id} not found", status=404)
    if row["state"] in sweep.ENDED:
        raise Refusal(f"Sweep {sweep_id} is not running")
    agent_id = sweep.new_id()
    context.tx.execute(
        "INSERT INTO agents (id, sweep, host, state, created_at, heartbeat_at) VALUES (?, ?, ?, 'RUNNING', ?, ?)",
        (agent_id, row["number"], values.text("host") or "", context.now, context.now),
    )
    # W&B's sweeps begin with their first agent.
    context.tx.execute("UPDATE sweeps SET state = 'RUNNING' WHERE number = ? AND state = 'PENDING'", (row["number"],))
    # So that a point is there when the agent first asks, 0 to 5 s from now.
    context.tx.after_commit.append(lambda: context.server.search.wake(int(row["number"])))
    return {"agent": {"__typename": "Agent", "id": agent_id, "name": agent_id}}


def agent_heartbeat(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `agentHeartbeat`: takes which runs the agent has alive, and answers with at most one order.

    The function agent obeys only the first order of an answer, and the stock command line starts every run that
    it is given at once, so there is one order per heartbeat and none to run while a run is alive.
    """
    values = arguments.nested("input")
    agent = context.tx.one("SELECT * FROM agents WHERE id = ?", (values.required_text("id"),))
    if agent is None:
        raise Refusal(f"agent {values.text('id')} not found", status=404)
    reported = _reported(values)
    tx = context.tx
    tx.execute("UPDATE agents SET heartbeat_at = ?, state = 'RUNNING' WHERE number = ?", (context.now, agent["number"]))
    tx.execute("UPDATE sweeps SET heartbeat_at = ? WHERE number = ?", (context.now, agent["sweep"]))
    runs = tx.rows("SELECT * FROM runs WHERE agent = ? AND state IN ('pending', 'running')", (agent["number"],))
    lost = [run for run in runs if _note(context, run, alive=run["name"] in reported)]
    answer = _stop_order(context, [run for run in runs if run["name"] in reported])
    if answer is None and not reported:
        answer = _repeated_order(context, lost) or _work(context, agent)
        if answer is not None and answer["type"] == "exit":
            tx.execute("UPDATE agents SET state = 'FINISHED' WHERE number = ?", (agent["number"],))
    if any(run["name"] not in reported for run in runs):
        sweep.settle(context, agent["sweep"])
    commands = [] if answer is None else [answer]
    return {"agent": {"__typename": "Agent", "id": agent["id"]}, "commands": json.dumps(commands)}


def _reported(values: Arguments) -> frozenset[str]:
    state = values.json_object("runState") or {}
    if len(state) > _MAX_REPORTED:
        raise Refusal(f"an agent cannot have more than {_MAX_REPORTED} runs alive")
    return frozenset(name for name, alive in state.items() if alive)


def _note(context: Context, run: sqlite3.Row, *, alive: bool) -> bool:
    """Takes down whether an agent still has a run alive; returns whether the order to run it may be lost.

    A run that is gone before it said anything has failed. One that was running may have its last words under
    way: the clock in `watch` decides, and nobody waits for it.
    """
    if alive:
        if run["gone_at"] is not None or not run["reported"]:
            context.tx.execute("UPDATE runs SET reported = 1, gone_at = NULL WHERE id = ?", (run["id"],))
        return False
    if run["state"] == "running":
        context.tx.execute("UPDATE runs SET gone_at = COALESCE(gone_at, ?) WHERE id = ?", (context.now, run["id"]))
        return False
    # The answer that held the order may have died with the server process that gave it. In one and the same
    # process it arrived: then the run's process is what has died.
    if not run["reported"] and run["handed_out_by"] != context.server.process:
        return True
    end_without_exit(context, run)
    return False


def _stop_order(context: Context, alive: list[sqlite3.Row]) -> Order | None:
    """An order to end a run that was asked to stop and has not obeyed by itself.

    `stopped` in the answer to its file stream comes first: it lets the run upload all it has, while this order is
    a SIGTERM. A run that never spoke cannot hear the former. Repeated, for W&B's agent only kills at a repeat.
    """
    for run in alive:
        asked = run["stop_requested_at"]
        if asked is not None and (
            run["state"] == "pending" or context.now - asked >= context.server.settings.stop_grace_s
        ):
            return {"type": "stop", "run_id": run["name"]}
    return None


def _repeated_order(context: Context, lost: list[sqlite3.Row]) -> Order | None:
    """Gives a lost order again, once."""
    for run in lost:
        if run["stop_requested_at"] is not None:
            end_without_exit(context, run)
            continue
        context.tx.execute(
            "UPDATE runs SET handed_out_by = ?, handed_out_at = ? WHERE id = ?",
            (context.server.process, context.now, run["id"]),
        )
        return order("run", run["name"], sweep.by_number(context.tx, run["sweep"]), run["point"] or "{}")
    return None


def _work(context: Context, agent: sqlite3.Row) -> Order | None:
    """What an idle agent is to do: a run, to leave, or (None) to ask again later."""
    row = sweep.by_number(context.tx, agent["sweep"])
    if row["state"] in sweep.ENDED:
        return {"type": "exit"}
    if row["state"] == "PAUSED":
        return None
    preempted = give_preempted(context, agent, row)
    if preempted is not None:
        return preempted
    match search.choose(context, row, agent["number"]):
        case search.Chosen() as chosen:
            return give_new(context, agent, row, chosen)
        case search.Waiting():
            return None
    search.mark_exhausted(context, row["number"])
    return None if _may_come_back(context.tx, row["number"]) else {"type": "exit"}


def _may_come_back(tx: Transaction, number: int) -> bool:
    """Whether a run of the sweep has announced that it will be preempted and so handed out again."""
    return (
        tx.one("SELECT 1 FROM runs WHERE sweep = ? AND state = 'running' AND preempting = 1 LIMIT 1", (number,))
        is not None
    )
