"""The unmodified agents of wandb, by command line and by function, against one server.

They look for work every 5 s, and no setting changes that, so all of them run at the same time, started by one
fixture, and each test then looks at what became of its sweep.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pytest
from offline.clients import Protocol, Wandb, wait_until

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
        run.log({"loss": run.config["how"] == "b"})
        if run.config["how"] == "c":
            raise RuntimeError("as told")
wandb.agent(sys.argv[1], function=train, entity="local", project="agents")
"""


@dataclass
class Sweep:
    """A sweep, and the agents at work on it."""

    id: str
    agents: list[subprocess.Popen[str]] = field(default_factory=list)


@pytest.fixture(scope="module")
def client(server) -> Iterator[Protocol]:
    with Protocol(server, project="agents") as client:
        yield client


@pytest.fixture(scope="module")
def sweeps(server, client: Protocol, client_env: Mapping[str, str], tmp_path_factory) -> Iterator[dict[str, Sweep]]:
    folder = tmp_path_factory.mktemp("agents")
    (folder / "train.py").write_text(TRAIN)
    (folder / "function.py").write_text(FUNCTION)
    wandb = Wandb.at(server, folder, client_env)

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
        "shared": sweep("shared", ["a", "b", "c"]),
        "states": sweep("states", ["fine", "raises", "dies"]),
        "function": sweep("function", ["a", "b", "c"]),
        "capped": sweep("capped", ["a", "b"], method="random", run_cap=1),
        "cancelled": sweep("cancelled", ["hangs", "a"]),
    }
    for name, count in (("states", 1), ("cancelled", 1), ("shared", 2), ("capped", 1)):
        for number in range(count):
            made[name].agents.append(
                wandb.start("wandb", "agent", f"local/agents/{made[name].id}", log=f"{name}-{number}.log")
            )
    made["function"].agents.append(wandb.start("python", "function.py", made["function"].id))
    yield made
    for one in made.values():
        for agent in one.agents:
            agent.kill()
            agent.wait()


def how_they_ended(client: Protocol, sweep: str) -> dict[str, list[str]]:
    """The states of the runs of each point."""
    ended: dict[str, list[str]] = {}
    for run in client.runs(sweep).values():
        ended.setdefault(json.loads(run["config"])["how"]["value"], []).append(run["state"])
    return ended


def wait_for_end(client: Protocol, sweep: Sweep) -> None:
    for agent in sweep.agents:
        assert agent.wait(90) == 0
    wait_until(lambda: client.sweep(sweep.id)["state"] == "FINISHED", timeout_s=20, what="the sweep is finished")


def test_a_cancelled_sweep_ends_its_runs_and_its_agent(client: Protocol, sweeps: dict[str, Sweep]):
    sweep = sweeps["cancelled"]
    wait_until(lambda: client.states(sweep.id) == ["running"], timeout_s=60, what="the run hangs")
    client.set_state(sweep.id, "CANCELED")
    assert sweep.agents[0].wait(60) == 0
    wait_until(lambda: client.states(sweep.id) == ["killed"], timeout_s=20, what="the run is killed")
    assert client.sweep(sweep.id)["state"] == "CANCELED"


def test_run_cap_is_kept(client: Protocol, sweeps: dict[str, Sweep]):
    wait_for_end(client, sweeps["capped"])
    assert client.states(sweeps["capped"].id) == ["finished"]


def test_two_agents_share_a_grid_and_run_every_point_once(client: Protocol, sweeps: dict[str, Sweep]):
    wait_for_end(client, sweeps["shared"])
    assert how_they_ended(client, sweeps["shared"].id) == {"a": ["finished"], "b": ["finished"], "c": ["finished"]}


def test_runs_end_as_their_processes_do(client: Protocol, sweeps: dict[str, Sweep]):
    wait_for_end(client, sweeps["states"])
    assert how_they_ended(client, sweeps["states"].id) == {
        "fine": ["finished"],
        "raises": ["failed"],
        "dies": ["crashed"],
    }


def test_a_function_is_called_once_for_every_point(client: Protocol, sweeps: dict[str, Sweep]):
    wait_for_end(client, sweeps["function"])
    assert how_they_ended(client, sweeps["function"].id) == {"a": ["finished"], "b": ["finished"], "c": ["failed"]}


def test_the_public_api_reads_it_all_back(client: Protocol, sweeps: dict[str, Sweep], server, client_env, tmp_path):
    sweep = sweeps["function"]
    wait_for_end(client, sweep)
    seen = Wandb.at(server, tmp_path, client_env).python(
        """
import json, sys, wandb
sweep = wandb.Api().sweep(f"local/agents/{sys.argv[1]}")
best = sweep.best_run()
print("RESULT", json.dumps({
    "state": sweep.state, "name": sweep.name, "runs": sorted(run.config["how"] for run in sweep.runs),
    "best": [best.config["how"], best.summary["loss"], best.state], "agents": len(sweep.agents()),
    "of_agent": len(list(sweep.agents()[0].runs())), "history": [len(list(run.scan_history())) for run in sweep.runs],
}))
""",
        sweep.id,
    )
    assert seen["best"].pop(0) in "ac"
    assert seen == {
        "state": "FINISHED",
        "name": "function",
        "runs": ["a", "b", "c"],
        "best": [False, "finished"],
        "agents": 1,
        "of_agent": 3,
        "history": [1, 1, 1],
    }
