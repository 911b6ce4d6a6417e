"""Sweep agents: registering, heartbeats, and the orders that they are answered with."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping

from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.request.context import Context
from wandb_submit.server.runs.state import DECISIVE, end_without_exit, give_back
from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.server.sweeps import search, sweep
from wandb_submit.server.sweeps.beat import Beat, answer_is_lost, read_beat
from wandb_submit.server.sweeps.controller import next_scheduled
from wandb_submit.server.sweeps.orders import Order, give_again, give_new, give_scheduled, is_silent, repeat


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
    number = context.tx.insert(
        "INSERT INTO agents (id, sweep, host, state, created_at, heartbeat_at) VALUES (?, ?, ?, 'RUNNING', ?, ?)",
        (agent_id, row["number"], values.text("host") or "", context.now, context.now),
    )
    context.server.heard.of("agents", number)
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
    beat = read_beat(values)
    tx = context.tx
    heard = context.server.heard
    heard.of("agents", agent["number"])
    heard.of("sweeps", agent["sweep"])
    device = agent["device"] if beat.device is None else beat.device
    if agent["state"] != "RUNNING" or agent["device"] != device:
        tx.execute("UPDATE agents SET state = 'RUNNING', device = ? WHERE number = ?", (device, agent["number"]))
    runs = tx.rows(
        f"SELECT {DECISIVE} FROM runs WHERE agent = ? AND state IN ('pending', 'running', 'preempted')",  # noqa: S608
        (agent["number"],),
    )
    gone = [run for run in runs if run["name"] not in beat.alive]
    lost = [run for run in gone if _note_gone(context, run, beat)]
    alive = [run for run in runs if run["name"] in beat.alive]
    _note_alive(context, alive)
    answer = _stop_order(context, alive)
    strange = beat.alive.difference(run["name"] for run in alive)
    if answer is None and strange:
        answer = _take_back(context, agent, strange)
    if beat.leaving is not None:
        for run in lost:
            give_back(context, run, vanished=False)
        tx.execute("UPDATE agents SET state = 'FINISHED' WHERE number = ?", (agent["number"],))
        answer = None
    elif answer is None and not beat.alive:
        answer = _repeated_order(context, lost) or _work(context, agent)
        if answer is not None and answer["type"] == "exit":
            tx.execute("UPDATE agents SET state = 'FINISHED' WHERE number = ?", (agent["number"],))
    if answer is not None and beat.number is not None:
        tx.execute(
            "UPDATE runs SET handed_out_beat = ? WHERE agent = ? AND name = ?",
            (beat.number, agent["number"], answer.get("run_id")),
        )
    if gone:
        sweep.settle(context, agent["sweep"])
    commands = [] if answer is None else [answer]
    return {"agent": {"__typename": "Agent", "id": agent["id"]}, "commands": json.dumps(commands)}


def _note_alive(context: Context, runs: list[sqlite3.Row]) -> None:
    """Takes down that the agent has these runs: the orders arrived, and nobody else may have them."""
    for run in runs:
        if run["gone_at"] is not None or not run["reported"]:
            context.tx.execute("UPDATE runs SET reported = 1, gone_at = NULL WHERE id = ?", (run["id"],))


def _note_gone(context: Context, run: sqlite3.Row, beat: Beat) -> bool:
    """Takes down that an agent does not have a run (any more); returns whether the order to run it was lost.

    A run that is gone before it said anything has failed. One that was running may have its last words under
    way: the clock in `watch` decides, and nobody waits for it.
    """
    if run["state"] != "pending":
        if run["gone_at"] is None:
            context.tx.execute("UPDATE runs SET gone_at = ? WHERE id = ?", (context.now, run["id"]))
        return False
    if beat.leaving is not None and run["name"] in beat.leaving:
        give_back(context, run, vanished=False)
        return False
    if answer_is_lost(context, run, beat):
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
            run["state"] == "pending" or not 0 <= context.steady - asked < context.server.settings.stop_grace_s
        ):
            return {"type": "stop", "run_id": run["name"]}
    return None


def _take_back(context: Context, agent: sqlite3.Row, names: frozenset[str]) -> Order | None:
    """What an agent is told that has runs which are not its own: it was silent for so long that they were given back.

    If nobody has taken such a run yet, it is its own again. Else there must not be two of it.
    """
    marks = ", ".join("?" * len(names))
    for run in context.tx.rows(
        f"SELECT {DECISIVE} FROM runs WHERE sweep = ? AND name IN ({marks})",  # noqa: S608 - question marks
        (agent["sweep"], *names),
    ):
        if run["state"] == "pending" and run["agent"] is None:
            context.tx.execute("UPDATE runs SET agent = ?, reported = 1 WHERE id = ?", (agent["number"], run["id"]))
        elif run["state"] in ("pending", "running") and run["agent"] not in (None, agent["number"]):
            return {"type": "stop", "run_id": run["name"]}
    return None


def _repeated_order(context: Context, lost: list[sqlite3.Row]) -> Order | None:
    """Gives a lost order again."""
    for run in lost:
        if run["stop_requested_at"] is not None:
            end_without_exit(context, run)
            continue
        context.tx.execute(
            # How soon a heartbeat comes after the order says something of the first order only.
            "UPDATE runs SET handed_out_at = CASE handed_out_by WHEN :process THEN handed_out_at ELSE :now END,"
            " handed_out_by = :process WHERE id = :run",
            {"process": context.server.process, "now": context.steady, "run": run["id"]},
        )
        return repeat(context, run["id"])
    return None


def _work(context: Context, agent: sqlite3.Row) -> Order | None:
    """What an idle agent is to do: a run, to leave, or (None) to ask again later."""
    row = sweep.by_number(context.tx, agent["sweep"])
    if row["state"] in sweep.ENDED:
        return {"type": "exit"}
    if row["state"] == "PAUSED":
        return None
    again = give_again(context, agent, row)
    if again is not None:
        return again
    scheduled = next_scheduled(row)
    if scheduled is not None and scheduled.point is not None:
        return give_scheduled(context, agent, row, scheduled)
    match search.Exhausted() if scheduled is not None else search.choose(context, row, agent["number"]):
        case search.Chosen() as chosen:
            return give_new(context, agent, row, chosen)
        case search.Waiting():
            return None
    search.mark_exhausted(context, row["number"])
    return None if _may_come_back(context, row["number"]) else {"type": "exit"}


def _may_come_back(context: Context, number: int) -> bool:
    """Whether a run of the sweep may soon want another agent: preempted, about to be, or its agent silent.

    Agents speak every few seconds, but it takes minutes until a silent one is given up.
    """
    runs = context.tx.rows(
        "SELECT agent, state FROM runs WHERE sweep = ? AND"
        " (state IN ('preempted', 'pending') OR (state = 'running' AND preempting))",
        (number,),
    )
    return any(run["state"] != "pending" or is_silent(context, run["agent"]) for run in runs)
