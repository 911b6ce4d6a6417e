"""Sweeps that go on after their end: resumed ones, with room for runs that were deleted or are put into them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from offline.clients import CREATE_SWEEP, Protocol, Wandb
from offline.test_search import point, take
from support import wait_until

from wandb_submit.server.control.lifecycle import ServerInfo
from wandb_submit.spec import Endpoint
from wandb_submit.wandb_api import sweeps
from wandb_submit.wandb_api.names import SweepName

GRID = {"method": "grid", "parameters": {"x": {"values": [1, 2, 3]}}}
RANDOM = {"method": "random", "run_cap": 3, "parameters": {"x": {"min": 0.0, "max": 1.0}}}
BAYES = {**RANDOM, "method": "bayes", "metric": {"name": "loss"}}
DELETE = "mutation DeleteRun($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }"
ENQUEUE = """mutation Enqueue($id: ID!, $config: JSONString!) {
  enqueueSweepRun(input: {id: $id, config: $config}) { id } }"""


def run_all(protocol: Protocol, agent: str, failing: int = 0) -> list[dict]:
    """Runs what an agent gets until it is told to leave; run number `failing` fails."""
    orders = []
    while (order := take(protocol, agent))["type"] == "run":
        orders.append(order)
        protocol.start_run(order["run_id"])
        protocol.finish(order["run_id"], int(len(orders) == failing), summary={"loss": len(orders)})
    return orders


def delete(protocol: Protocol, run: str) -> None:
    protocol.data(DELETE, id=protocol.start_run(run)["bucket"]["id"])


@pytest.mark.parametrize("config", [GRID, RANDOM, BAYES], ids=["grid", "random", "bayes"])
def test_an_exhausted_sweep_is_resumed_until_an_agent_asks_in_vain(protocol: Protocol, config: dict) -> None:
    sweep = protocol.create_sweep(**config)
    assert len(run_all(protocol, protocol.agent(sweep))) == 3
    assert protocol.sweep(sweep)["state"] == "FINISHED"
    protocol.set_state(sweep, "RUNNING")
    assert protocol.sweep(sweep)["state"] == "RUNNING"
    assert run_all(protocol, protocol.agent(sweep)) == []
    assert protocol.sweep(sweep)["state"] == "FINISHED"


def test_the_point_of_a_run_that_was_deleted_is_tried_again(protocol: Protocol) -> None:
    sweep = protocol.create_sweep(**GRID)
    orders = run_all(protocol, protocol.agent(sweep), failing=2)
    delete(protocol, orders[1]["run_id"])
    assert protocol.sweep(sweep)["state"] == "FINISHED"
    protocol.set_state(sweep, "RUNNING")
    agent = protocol.agent(sweep)
    (again,) = run_all(protocol, agent)
    assert point(again) == {"x": 2}
    assert again["run_id"] != orders[1]["run_id"]
    assert protocol.sweep(sweep)["state"] == "FINISHED"
    assert sorted(json.loads(run["config"])["x"]["value"] for run in protocol.runs(sweep).values()) == [1, 2, 3]


@pytest.mark.parametrize("config", [GRID, RANDOM, BAYES], ids=["grid", "random", "bayes"])
def test_a_run_that_is_deleted_while_the_sweep_goes_on_makes_room_for_another(protocol: Protocol, config: dict) -> None:
    sweep = protocol.create_sweep(**config)
    agent = protocol.agent(sweep)
    first = take(protocol, agent)
    protocol.start_run(first["run_id"])
    protocol.finish(first["run_id"], 1)
    # The last run goes on.
    last = [take(protocol, agent) for _ in range(2)][-1]
    protocol.start_run(last["run_id"])
    delete(protocol, first["run_id"])
    other = protocol.agent(sweep)
    (more,) = run_all(protocol, other) if config is not GRID else [take(protocol, other)]
    if config is GRID:
        assert point(more) == point(first)
    assert more["run_id"] not in (first["run_id"], last["run_id"])


def test_several_points_come_again_each_once_also_after_a_change_of_the_grid(protocol: Protocol) -> None:
    sweep = protocol.create_sweep(method="grid", parameters={"x": {"values": [1, 2]}})
    orders = run_all(protocol, protocol.agent(sweep))
    wider = {"method": "grid", "parameters": {"x": {"values": [2, 3, 1, 4]}}}
    protocol.data(CREATE_SWEEP, id=sweep, config=json.dumps(wider), state="RUNNING")
    orders += run_all(protocol, protocol.agent(sweep))
    assert [point(order)["x"] for order in orders] == [1, 2, 3, 4]
    for number in (0, 2):
        delete(protocol, orders[number]["run_id"])
    protocol.set_state(sweep, "RUNNING")
    assert [point(order)["x"] for order in run_all(protocol, protocol.agent(sweep))] == [3, 1]


def is_exhausted(server: ServerInfo, sweep: str) -> bool:
    with sqlite3.connect(Path(server.data_dir) / "server.sqlite3") as connection:
        (found,) = connection.execute("SELECT exhausted FROM sweeps WHERE id = ?", (sweep,)).fetchone()
    connection.close()
    return bool(found)


def test_a_sweep_that_has_reached_its_target_is_not_opened_by_deleting_a_run(
    server: ServerInfo, protocol: Protocol
) -> None:
    target = {"name": "loss", "goal": "minimize", "target": 0.5}
    sweep = protocol.create_sweep(**GRID, metric=target)
    agent = protocol.agent(sweep)
    failed, good = (take(protocol, agent)["run_id"] for _ in range(2))
    protocol.start_run(failed)
    protocol.finish(failed, 1)
    protocol.start_run(good)
    protocol.log(good, [{"loss": 0.1}])
    wait_until(lambda: is_exhausted(server, sweep), what="the target is known")
    delete(protocol, failed)
    assert protocol.heartbeat(protocol.agent(sweep)) == [{"type": "exit"}]
    protocol.finish(good)
    assert protocol.sweep(sweep)["state"] == "FINISHED"
    protocol.set_state(sweep, "RUNNING")
    assert take(protocol, protocol.agent(sweep))["type"] == "run"


@pytest.mark.parametrize("state", ["FINISHED", "CANCELED"])
def test_a_sweep_that_was_stopped_goes_on_where_it_was(protocol: Protocol, state: str) -> None:
    sweep = protocol.create_sweep(**GRID)
    agent = protocol.agent(sweep)
    first = take(protocol, agent)
    protocol.start_run(first["run_id"])
    protocol.finish(first["run_id"])
    protocol.set_state(sweep, state)
    assert protocol.heartbeat(agent) == [{"type": "exit"}]
    protocol.set_state(sweep, "RUNNING")
    assert [point(order)["x"] for order in run_all(protocol, protocol.agent(sweep))] == [2, 3]


def test_a_run_is_put_into_a_sweep_that_is_resumed(server: ServerInfo, protocol: Protocol) -> None:
    sweep = protocol.create_sweep(**GRID)
    run_all(protocol, protocol.agent(sweep))
    refused = protocol.post(ENQUEUE, id=sweep, config='{"x": 7}').json()["errors"][0]["message"]
    assert "resume it" in refused
    endpoint = Endpoint(base_url=server.url, server_dir=Path(server.data_dir))
    name = SweepName(entity="local", project="tests", id=sweep)
    assert sweeps.is_over(sweeps.find(name, endpoint))
    protocol.set_state(sweep, "RUNNING")
    assert sweeps.find(name, endpoint).runs_left == 0
    protocol.data(ENQUEUE, id=sweep, config='{"x": 7}')
    found = sweeps.find(name, endpoint)
    assert (sweeps.is_over(found), found.runs_left) == (False, 1)
    assert [point(order) for order in run_all(protocol, protocol.agent(sweep))] == [{"x": 7}]
    assert protocol.sweep(sweep)["state"] == "FINISHED"


AGAIN = """
import json, sys
import wandb
sweep = sys.argv[1]
def train():
    with wandb.init() as run:
        run.log({"loss": run.config.x})
found = wandb.Api().sweep(f"local/tests/{sweep}")
failed = next(run for run in found.runs if run.state == "failed")
failed.delete()
before = len(wandb.Api().sweep(f"local/tests/{sweep}").runs)
wandb.agent(sweep, train, entity="local", project="tests")
after = wandb.Api().sweep(f"local/tests/{sweep}")
print("RESULT", json.dumps([before, after.state, sorted(run.config["x"] for run in after.runs)]))
"""


def test_the_client_deletes_a_failed_run_and_resumes(protocol: Protocol, wandb: Wandb) -> None:
    sweep = protocol.create_sweep(method="grid", parameters={"x": {"values": [1, 2]}})
    run_all(protocol, protocol.agent(sweep), failing=2)
    resumed = wandb.run("wandb", "sweep", "--resume", f"local/tests/{sweep}")
    assert resumed.returncode == 0, resumed.stdout
    assert protocol.sweep(sweep)["state"] == "RUNNING"
    assert wandb.python(AGAIN, sweep) == [1, "FINISHED", [1, 2]]
