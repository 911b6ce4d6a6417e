"""Sweeps at which the unmodified agents of wandb work.

They look for work every 5 s, and no setting changes that: so all of them start at once, and the tests look at what
became of their sweeps.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from offline.clients import Protocol, Wandb
from support import wait_until

from wandb_submit.server.lifecycle import ServerInfo

TRAIN = """
import os, signal, sys, time, wandb
with wandb.init() as run:
    how = run.config["how"]
    run.log({"loss": len(how)})
    if how == "raises":
        raise RuntimeError("as told")
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hangs":
        print("hanging", flush=True)
        time.sleep(600)
"""
FUNCTION = """
import sys, wandb
def train():
    with wandb.init() as run:
        run.log({"loss": len(run.config["how"])})
        if run.config["how"] == "raises":
            raise RuntimeError("as told")
wandb.agent(sys.argv[1], function=train, entity="local", project="agents")
"""


@dataclass
class Sweep:
    """A sweep, the agents at work on it, and what else is done to it (if anything)."""

    id: str
    agents: list[subprocess.Popen[str]] = field(default_factory=list)
    done_to_it: Future[None] | None = None


@contextmanager
def at_work(server: ServerInfo, folder: Path, env: Mapping[str, str]) -> Iterator[dict[str, Sweep]]:
    """The sweeps by name; their agents are killed in the end."""
    (folder / "train.py").write_text(TRAIN)
    (folder / "function.py").write_text(FUNCTION)
    wandb = Wandb.at(server, folder, env)
    with Protocol(server, project="agents") as client, ThreadPoolExecutor(1) as pool:

        def sweep(name: str, hows: list[str], **more: object) -> Sweep:
            return Sweep(
                client.create_sweep(
                    program="train.py",
                    **{"method": "grid", **more},
                    name=name,
                    metric={"name": "loss", "goal": "minimize"},
                    parameters={"how": {"values": hows}},
                )
            )

        made = {
            "cancelled": sweep("cancelled", ["hangs", "a"]),
            "states": sweep("states", ["raises", "dies"]),
            "function": sweep("function", ["fine", "raises"]),
            "shared": sweep("shared", ["a", "b", "c"]),
            "capped": sweep("capped", ["a", "b"], method="random", run_cap=1),
        }
        made["function"].agents.append(wandb.start("python", "function.py", made["function"].id))
        for name, count in (("cancelled", 1), ("states", 1), ("shared", 2), ("capped", 1)):
            for number in range(count):
                made[name].agents.append(
                    wandb.start("wandb", "agent", f"local/agents/{made[name].id}", log=f"{name}-{number}.log")
                )
        made["cancelled"].done_to_it = pool.submit(_cancel, server, made["cancelled"].id)
        try:
            yield made
        finally:
            for one in made.values():
                for agent in one.agents:
                    agent.kill()
                    agent.wait()


def _cancel(server: ServerInfo, sweep: str) -> None:
    """Cancels a sweep whose run hangs, as soon as it does."""
    with Protocol(server, project="agents") as client:
        wait_until(lambda: client.states(sweep) == ["running"], timeout_s=60, what="the run hangs")
        client.set_state(sweep, "CANCELED")
