"""The unmodified agents of wandb, by command line and by function, against one server.

The fixture `stock_sweeps` has started all of them at once; each test looks at what became of its sweep.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from offline.clients import Protocol, Wandb
from offline.stock_agents import Sweep
from support import wait_until


@pytest.fixture(scope="module")
def client(server) -> Iterator[Protocol]:
    with Protocol(server, project="agents") as client:
        yield client


def how_they_ended(client: Protocol, sweep: str) -> dict[str, list[str]]:
    """The states of the runs of each point."""
    ended: dict[str, list[str]] = {}
    for run in client.runs(sweep).values():
        ended.setdefault(json.loads(run["config"])["how"]["value"], []).append(run["state"])
    return ended


def wait_for_end(client: Protocol, sweep: Sweep) -> None:
    for agent in sweep.agents:
        assert agent.wait(90) == 0
    wait_until(lambda: client.sweep(sweep.id)["state"] == "FINISHED", what="the sweep is finished")


def test_a_cancelled_sweep_ends_its_runs_and_its_agent(client: Protocol, stock_sweeps: dict[str, Sweep]):
    sweep = stock_sweeps["cancelled"]
    sweep.done_to_it.result(180)
    assert sweep.agents[0].wait(60) == 0
    wait_until(lambda: client.states(sweep.id) == ["killed"], what="the run is killed")
    assert client.sweep(sweep.id)["state"] == "CANCELED"


def test_run_cap_is_kept(client: Protocol, stock_sweeps: dict[str, Sweep]):
    wait_for_end(client, stock_sweeps["capped"])
    assert client.states(stock_sweeps["capped"].id) == ["finished"]


def test_two_agents_share_a_grid_and_run_every_point_once(client: Protocol, stock_sweeps: dict[str, Sweep]):
    wait_for_end(client, stock_sweeps["shared"])
    assert how_they_ended(client, stock_sweeps["shared"].id) == {
        "a": ["finished"],
        "b": ["finished"],
        "c": ["finished"],
    }


def test_runs_end_as_their_processes_do(client: Protocol, stock_sweeps: dict[str, Sweep]):
    wait_for_end(client, stock_sweeps["states"])
    assert how_they_ended(client, stock_sweeps["states"].id) == {
        "raises": ["failed"],
        "dies": ["crashed"],
    }


def test_a_function_is_called_once_for_every_point(client: Protocol, stock_sweeps: dict[str, Sweep]):
    wait_for_end(client, stock_sweeps["function"])
    assert how_they_ended(client, stock_sweeps["function"].id) == {
        "fine": ["finished"],
        "raises": ["failed"],
        "preempted": ["finished"],
    }


def test_preempted_runs_come_back_as_themselves_and_go_on_with_their_history(
    client: Protocol, stock_sweeps: dict[str, Sweep]
):
    sweep = stock_sweeps["preempted"].id
    wait_for_end(client, stock_sweeps["preempted"])
    assert how_they_ended(client, sweep) == {"allow": ["finished"], "must": ["finished"], "anew": ["finished"]}
    query = 'query($n: String!) { project(name: "agents", entityName: "local") { run(name: $n) { history } } }'
    rows = {}
    for name, run in client.runs(sweep).items():
        history = [json.loads(row) for row in client.data(query, n=name)["project"]["run"]["history"]]
        rows[json.loads(run["config"])["how"]["value"]] = [(row["_step"], row["life"]) for row in history]
    gone_on = [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]
    assert rows == {"allow": gone_on, "must": gone_on, "anew": [(0, 2), (1, 2), (2, 2)]}


def test_the_public_api_reads_it_all_back(
    client: Protocol, stock_sweeps: dict[str, Sweep], server, clean_env, tmp_path
):
    sweep = stock_sweeps["function"]
    wait_for_end(client, sweep)
    seen = Wandb.at(server, tmp_path, clean_env).python(
        """
import json, sys, wandb
sweep = wandb.Api().sweep(f"local/agents/{sys.argv[1]}")
best = sweep.best_run()
print("RESULT", json.dumps({
    "state": sweep.state, "name": sweep.name, "runs": sorted(run.config["how"] for run in sweep.runs),
    "best": [best.config["how"], best.summary["loss"], best.state], "agents": len(sweep.agents()),
    "of_agent": len(list(sweep.agents()[0].runs())),
    "history": {run.config["how"]: len(list(run.scan_history())) for run in sweep.runs},
}))
""",
        sweep.id,
    )
    assert seen == {
        "state": "FINISHED",
        "name": "function",
        "runs": ["fine", "preempted", "raises"],
        "best": ["fine", 4, "finished"],
        "agents": 1,
        "of_agent": 3,
        "history": {"fine": 1, "raises": 1, "preempted": 2},
    }
