"""An agent's heartbeat: what it says, and whether the answer to an earlier one got lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.request.context import Context
from wandb_submit.server.storage.refusals import Refusal

# Parsed once per agent and heartbeat; W&B's agents name one run, an agent of several trials a few.
_MAX_REPORTED = 1000
# Letters of the list of an agent's GPUs.
_MAX_DEVICE = 200
# wandb's agents say something every 5 s. What comes sooner is the same heartbeat once more: wandb 0.26 repeats it a
# second after a connection broke. (wandb 0.31 does not; its next heartbeat tells nothing of an answer that got lost.)
_SOONEST_S = 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Beat:
    """One heartbeat.

    Attributes:
        alive: the runs that the agent has.
        number: how many heartbeats the agent has had answered before, by its own count; None if it does not say.
        device: what the agent computes on, in words; None if it does not say.
        leaving: None, or that the agent ends, and the runs that it cut short.
    """

    alive: frozenset[str]
    number: int | None
    device: str | None
    leaving: frozenset[str] | None = None


def read_beat(values: Arguments) -> Beat:
    """Reads the input of `agentHeartbeat`.

    Our own agent counts the answers that it got, and names its devices, in `metrics`; wandb's agents leave that empty.
    """
    state = values.json_object("runState") or {}
    if len(state) > _MAX_REPORTED:
        raise Refusal(f"an agent cannot have more than {_MAX_REPORTED} runs alive")
    metrics = values.json_object("metrics") or {}
    number, leaving = metrics.get("answered"), metrics.get("leaving")
    return Beat(
        alive=frozenset(name for name, alive in state.items() if alive),
        number=number if isinstance(number, int) and 0 <= number < 2**53 else None,
        device=_device(metrics),
        leaving=frozenset(map(str, leaving[:_MAX_REPORTED])) if isinstance(leaving, list) else None,
    )


def _device(metrics: Mapping[str, object]) -> str | None:
    gpus, cpus = metrics.get("gpus"), metrics.get("cpus")
    parts = [f"GPU {gpus[:_MAX_DEVICE]}"] if isinstance(gpus, str) and gpus else []
    if isinstance(cpus, int):
        parts.append(f"{cpus} CPU{'' if cpus == 1 else 's'}")
    return ", ".join(parts) or None


def answer_is_lost(context: Context, run: sqlite3.Row, beat: Beat) -> bool:
    """Whether an agent that does not name a pending run of its own never got the order to run it.

    If the order arrived, the run's process has died before it could say anything, and the order must not be given
    again. An agent that counts tells for sure. Of another it can only be guessed: the order may have died with the
    server process that gave it; or this is the same heartbeat again, for the next one cannot come so soon.
    """
    if run["reported"]:
        return False
    order = context.tx.one("SELECT handed_out_beat, handed_out_by, handed_out_at FROM runs WHERE id = ?", (run["id"],))
    assert order is not None  # noqa: S101 - it was read in this transaction
    if beat.number is not None and order["handed_out_beat"] is not None:
        return bool(order["handed_out_beat"] == beat.number)
    same_process = bool(order["handed_out_by"] == context.server.process)
    return not same_process or bool(0 <= context.steady - order["handed_out_at"] < _SOONEST_S)
