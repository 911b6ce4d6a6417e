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

from wandb_submit.server.control.lifecycle import ServerInfo

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
        if run.config["how"] == "preempted":
            if run.id not in lives:
                lives.append(run.id)
                run.mark_preempting()
                raise RuntimeError("its first life")
            run.log({"life": 2})
lives = []
wandb.agent(sys.argv[1], function=train, entity="local", project="agents")
"""
# Every run is preempted in its first life, and is resumed in the way that its parameter names.
PREEMPTED = """
import os, sys, wandb
how = sys.argv[1].removeprefix("--how=")
second = os.path.exists(f"{how}.checkpoint")
with wandb.init(resume=how if how == "allow" or (how == "must" and second) else None) as run:
    for _ in range(3):
        run.log({"life": 1 + second})
    if not second:
        run.mark_preempting()
        open(f"{how}.checkpoint", "w").close()
        sys.exit(1)
"""
# What an answer holds that gives a run to an agent.
ORDER = rb"\"run_id\""


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
    (folder / "preempted.py").write_text(PREEMPTED)
    wandb = Wandb.at(server, folder, env)
    with Protocol(server, project="agents") as client, ThreadPoolExecutor(1) as pool:

        def sweep(name: str, hows: list[str], **more: object) -> Sweep:
            return Sweep(
                client.create_sweep(
                    **{"method": "grid", "program": "train.py", **more},
                    name=name,
                    metric={"name": "loss", "goal": "minimize"},
                    parameters={"how": {"values": hows}},
                )
            )

        made = {
            "cancelled": sweep("cancelled", ["hangs", "a"]),
            "states": sweep("states", ["raises", "dies"]),
            "function": sweep("function", ["fine", "raises", "preempted"]),
            "shared": sweep("shared", ["a", "b", "c"]),
            "capped": sweep("capped", ["a", "b"], method="random", run_cap=1),
            "preempted": sweep("preempted", ["allow", "must", "anew"], program="preempted.py"),
        }

        def agent(name: str, *options: str) -> None:
            log = f"{name}-{len(made[name].agents)}.log"
            # Its preempted runs would count as failed ones.
            more = {"WANDB_AGENT_DISABLE_FLAPPING": "true"} if name == "preempted" else {}
            path = f"local/agents/{made[name].id}"
            made[name].agents.append(wandb.start("wandb", "agent", *options, path, log=log, **more))

        made["function"].agents.append(wandb.start("python", "function.py", made["function"].id))
        for name in ("cancelled", "states", "shared", "capped", "preempted", "preempted"):
            agent(name)
        agent("shared", "--count", "1")
        made["cancelled"].done_to_it = pool.submit(_cancel, server, made["cancelled"].id)
        try:
            yield made
        finally:
            for one in made.values():
                for process in one.agents:
                    process.kill()
                    process.wait()


def _cancel(server: ServerInfo, sweep: str) -> None:
    """Cancels a sweep whose run hangs, as soon as it does."""
    with Protocol(server, project="agents") as client:
        wait_until(lambda: client.states(sweep) == ["running"], what="the run hangs")
        client.set_state(sweep, "CANCELED")
