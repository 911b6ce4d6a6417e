"""Agents that vanish, answers that get lost, and runs that go from one agent to another, spoken directly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from offline.clients import Protocol
from offline.lossy_proxy import lossy_proxy
from support import wait_until

from wandb_submit.agent.protocol import SweepClient
from wandb_submit.errors import UnavailableError
from wandb_submit.server.control.lifecycle import ServerInfo
from wandb_submit.spec import Endpoint

ONE = {"method": "grid", "parameters": {"x": {"values": [1]}}}
TWO = {"method": "grid", "parameters": {"x": {"values": [1, 2]}}}
AGENTS = """
query GetSweepAgents($sweep: String!, $entity: String, $project: String) {
  project(name: $project, entityName: $entity) {
    sweep(sweepName: $sweep) { agents { edges { node { id name host state totalRuns createdAt heartbeatAt } } } }
  }
}
"""
STOP_RUN = "mutation StopRun($id: ID!) { stopRun(input: {id: $id}) { success } }"
EXIT = [{"type": "exit"}]


@pytest.fixture(scope="module")
def hasty(serve, tmp_path_factory: pytest.TempPathFactory) -> ServerInfo:
    """A server that gives up on agents and runs very soon."""
    return serve(tmp_path_factory.mktemp("hasty") / "data", "--crash-after", "0.4", "--gone-grace", "0.1")


@pytest.fixture
def client(hasty: ServerInfo) -> Iterator[Protocol]:
    with Protocol(hasty) as client:
        yield client


def agents(client: Protocol, sweep: str) -> dict[str, dict]:
    found = client.data(AGENTS, sweep=sweep, entity=client.entity, project=client.project)
    return {edge["node"]["id"]: edge["node"] for edge in found["project"]["sweep"]["agents"]["edges"]}


def order_for(client: Protocol, agent: str) -> dict:
    """The run that an agent gets in the end."""

    def asked() -> list[dict]:
        return [order for order in client.heartbeat(agent) if order["type"] in ("run", "resume")]

    return wait_until(asked, what="the agent gets a run")[0]


def given_back(client: Protocol, sweep: str, agent: str) -> None:
    wait_until(lambda: agents(client, sweep)[agent]["totalRuns"] == 0, what="the run is given back")


def test_a_run_whose_agent_vanished_before_it_began_goes_to_the_next_but_not_for_ever(client: Protocol, hasty):
    sweep = client.create_sweep(**ONE)
    first = client.take_run(client.agent(sweep))
    assert [order_for(client, client.agent(sweep)) for _ in range(2)] == [first, first]
    wait_until(lambda: client.states(sweep) == ["failed"], what="the run is given up")
    assert client.sweep(sweep)["state"] == "FINISHED"
    assert f"run {first['run_id']} has failed: 3 agents" in (hasty.data_dir / "server.log").read_text()


def test_an_agent_that_comes_back_in_time_keeps_its_run(client: Protocol):
    sweep = client.create_sweep(**ONE)
    agent = client.agent(sweep)
    run = client.take_run(agent)["run_id"]
    given_back(client, sweep, agent)
    assert client.sweep(sweep)["state"] == "RUNNING"
    assert client.heartbeat(agent, run) == []
    assert agents(client, sweep)[agent]["totalRuns"] == 1
    assert client.heartbeat(client.agent(sweep)) == EXIT
    client.start_run(run)
    client.finish(run)
    assert client.sweep(sweep)["state"] == "FINISHED"


def test_an_agent_that_comes_back_too_late_is_told_to_end_its_run(client: Protocol):
    sweep = client.create_sweep(**ONE)
    late, other = client.agent(sweep), client.agent(sweep)
    run = client.take_run(late)["run_id"]
    given_back(client, sweep, late)
    assert order_for(client, other)["run_id"] == run
    assert client.heartbeat(late, run) == [{"type": "stop", "run_id": run}]
    assert client.heartbeat(other, run) == []


def test_a_run_that_nobody_has_any_more_ends_with_its_sweep(client: Protocol):
    sweep = client.create_sweep(**TWO)
    agent, other = client.agent(sweep), client.agent(sweep)
    client.take_run(agent)
    given_back(client, sweep, agent)
    client.set_state(sweep, "FINISHED")
    assert client.states(sweep) == ["killed"]
    assert client.heartbeat(other) == EXIT


def test_a_run_whose_agent_vanished_after_the_sweep_was_stopped_is_killed(client: Protocol):
    sweep = client.create_sweep(**TWO)
    client.take_run(client.agent(sweep))
    client.set_state(sweep, "FINISHED")
    wait_until(lambda: client.states(sweep) == ["killed"], what="the run is killed")


def test_a_resumed_run_whose_agent_vanished_is_still_to_be_resumed(client: Protocol):
    sweep = client.create_sweep(**ONE)
    run = client.take_run(client.agent(sweep))["run_id"]
    client.start_run(run)
    client.stream(run, preempting=True)
    client.finish(run, 1)
    for _ in range(2):
        order = order_for(client, client.agent(sweep))
        assert (order["type"], order["run_id"]) == ("resume", run)


def test_a_run_that_announced_its_preemption_and_fell_silent_is_resumed(client: Protocol):
    sweep = client.create_sweep(**ONE)
    run = client.take_run(client.agent(sweep))["run_id"]
    client.start_run(run)
    client.stream(run, preempting=True)
    assert client.states(sweep) == ["preempting"]
    wait_until(lambda: client.states(sweep) == ["preempted"], what="the run is given up")
    # It was not dead: it runs on, and nobody else gets it.
    client.stream(run)
    assert client.states(sweep) == ["preempting"]
    wait_until(lambda: client.states(sweep) == ["preempted"], what="the run is given up")
    assert order_for(client, client.agent(sweep))["type"] == "resume"


def test_a_heartbeat_that_is_sent_again_gets_the_same_order(protocol: Protocol):
    sweep = protocol.create_sweep(**TWO)
    stock, counting = protocol.agent(sweep), protocol.agent(sweep)
    order = protocol.repeated_heartbeat(stock)
    assert protocol.repeated_heartbeat(stock) == order
    other = protocol.repeated_heartbeat(counting, metrics='{"answered": 7}')
    assert protocol.repeated_heartbeat(counting, metrics='{"answered": 7}') == other
    assert protocol.states(sweep) == ["pending", "pending"]
    # Once it has named the run, the order arrived: without it the run is dead.
    (run,) = order
    assert protocol.repeated_heartbeat(stock, run["run_id"]) == []
    assert protocol.repeated_heartbeat(stock) == EXIT
    assert protocol.repeated_heartbeat(counting, metrics='{"answered": 8}') == EXIT
    assert protocol.states(sweep) == ["failed", "failed"]


def test_our_agent_gets_an_order_again_whose_answer_was_lost(protocol: Protocol, server, tmp_path: Path):
    sweep = protocol.create_sweep(**TWO)
    agent = protocol.agent(sweep)

    async def ask(url: str) -> list[str]:
        client = SweepClient(Endpoint(base_url=url, server_dir=tmp_path))
        try:
            for _ in range(2):
                with pytest.raises(UnavailableError):
                    await client.heartbeat(agent, ())
            runs = []
            for _ in range(2):
                (order,) = await client.heartbeat(agent, ())
                runs.append(str(order.run_id))
            return runs
        finally:
            await client.close()

    with lossy_proxy(server.url, text=rb"\"run_id\"", to_lose=2) as proxy:
        known = {"url": proxy.url, "api_key": server.api_key, "pid": server.pid}
        (tmp_path / "server.json").write_text(json.dumps(known))
        runs = asyncio.run(ask(proxy.url))
    assert list(protocol.runs(sweep)) == runs
    assert protocol.states(sweep) == ["failed", "pending"]


@pytest.mark.parametrize("metrics", ["{}", '{"answered": null}', '{"answered": "x"}', '{"answered": -1}', "null"])
def test_odd_metrics_are_those_of_another_agent(protocol: Protocol, metrics: str):
    sweep = protocol.create_sweep(**ONE)
    assert protocol.repeated_heartbeat(protocol.agent(sweep), metrics=metrics)[0]["type"] == "run"


def test_a_preempted_run_is_not_handed_out_while_its_process_lives(protocol: Protocol):
    sweep = protocol.create_sweep(**ONE)
    agent, other = protocol.agent(sweep), protocol.agent(sweep)
    run = protocol.take_run(agent)["run_id"]
    protocol.start_run(run)
    protocol.heartbeat(agent, run)
    protocol.stream(run, preempting=True)
    protocol.finish(run, 1)
    # It writes its last checkpoint.
    assert protocol.heartbeat(agent, run) == []
    assert protocol.heartbeat(other) == []
    assert protocol.states(sweep) == ["preempted"]
    assert protocol.heartbeat(agent)[0]["type"] == "resume"
    assert protocol.heartbeat(other) == EXIT


def test_last_words_that_come_again_do_not_end_the_next_life(protocol: Protocol):
    sweep = protocol.create_sweep(**ONE)
    run = protocol.take_run(protocol.agent(sweep))["run_id"]
    protocol.start_run(run)
    protocol.stream(run, preempting=True)
    row = {"offset": 0, "content": [json.dumps({"_step": 0, "loss": 3})]}
    last = {"files": {"wandb-history.jsonl": row}, "complete": True, "exitcode": 1}
    assert protocol.stream(run, **last).status_code == 200
    assert protocol.heartbeat(protocol.agent(sweep))[0]["type"] == "resume"
    assert protocol.stream(run, **last).status_code == 200
    assert protocol.states(sweep) == ["pending"]
    protocol.start_run(run)
    protocol.log(run, [{"_step": 1, "loss": 2}], offset=1)
    assert protocol.stream(run, **last).status_code == 200
    assert protocol.states(sweep) == ["running"]
    query = 'query($n: String!) { project(name: "tests", entityName: "local") { run(name: $n) { history } } }'
    assert len(protocol.data(query, n=run)["project"]["run"]["history"]) == 2
    protocol.finish(run)
    assert protocol.states(sweep) == ["finished"]


def test_a_run_that_waits_for_an_agent_is_stopped_at_once(protocol: Protocol):
    sweep = protocol.create_sweep(**ONE)
    run = protocol.take_run(protocol.agent(sweep))["run_id"]
    storage_id = protocol.start_run(run)["bucket"]["id"]
    protocol.stream(run, preempting=True)
    protocol.finish(run, 1)
    protocol.data(STOP_RUN, id=storage_id)
    assert protocol.states(sweep) == ["killed"]
    assert protocol.sweep(sweep)["state"] == "FINISHED"


def test_a_run_is_stopped_by_its_stream_and_then_by_its_agent(protocol: Protocol):
    sweep = protocol.create_sweep(**TWO)
    agent = protocol.agent(sweep)
    run = protocol.take_run(agent)["run_id"]
    storage_id = protocol.start_run(run)["bucket"]["id"]
    protocol.heartbeat(agent, run)
    protocol.data(STOP_RUN, id=storage_id)
    assert protocol.stream(run).json() == {"stopped": True}
    stop = [{"type": "stop", "run_id": run}]
    wait_until(lambda: protocol.heartbeat(agent, run) == stop, what="the agent is told to end it")
    protocol.finish(run, 255)
    assert protocol.states(sweep) == ["killed"]
    assert protocol.heartbeat(agent)[0]["type"] == "run"


def test_a_thousand_agents(protocol: Protocol):
    sweep = protocol.create_sweep(method="grid", parameters={"x": {"values": list(range(1000))}})
    ids = [protocol.agent(sweep) for _ in range(1000)]
    taken = [order_for(protocol, agent)["args"]["x"]["value"] for agent in ids]
    assert sorted(taken) == list(range(1000))
    shown = agents(protocol, sweep)
    assert list(shown) == ids
    assert {(agent["state"], agent["totalRuns"]) for agent in shown.values()} == {("RUNNING", 1)}
    protocol.set_state(sweep, "CANCELED")
    assert protocol.heartbeat(ids[0]) == EXIT
    assert agents(protocol, sweep)[ids[0]]["state"] == "FINISHED"
