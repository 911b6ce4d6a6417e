"""Agents, orders and the states that runs get from them, spoken directly."""

from __future__ import annotations

import json
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from offline.clients import CREATE_AGENT, CREATE_SWEEP, HEARTBEAT, SWEEP, Protocol
from support import wait_until

GRID = {"program": "train.py", "method": "grid", "parameters": {"x": {"values": [3, 1, 2]}}}


def test_a_grid_is_handed_out_once_and_the_sweep_ends_with_its_last_run(protocol: Protocol):
    sweep = protocol.create_sweep(**GRID, metric={"name": "loss", "goal": "minimize"})
    agent = protocol.agent(sweep)
    seen = []
    for _ in range(3):
        order = protocol.take_run(agent)
        assert order["program"] == "train.py"
        seen.append(order["args"]["x"]["value"])
        protocol.start_run(order["run_id"], sweep=sweep)
        assert protocol.heartbeat(agent, order["run_id"]) == []
        assert protocol.sweep(sweep)["state"] == "RUNNING"
        protocol.finish(order["run_id"], summary={"loss": seen[-1] / 10})
    assert sorted(seen) == [1, 2, 3]
    shown = protocol.sweep(sweep)
    assert (shown["state"], shown["runCount"], shown["runCountExpected"], shown["bestLoss"]) == ("FINISHED", 3, 3, 0.1)
    assert set(protocol.states(sweep)) == {"finished"}
    assert protocol.heartbeat(agent) == [{"type": "exit"}]


def test_many_agents_at_once_get_every_point_once(protocol: Protocol, server):
    points = [(a, b) for a in range(20) for b in range(15)]
    sweep = protocol.create_sweep(
        method="grid", parameters={"a": {"values": list(range(20))}, "b": {"values": list(range(15))}}
    )
    taken: list[tuple[int, int]] = []
    lock = threading.Lock()

    def work(_: int) -> int:
        heartbeats = 0
        with Protocol(server) as client:
            agent = client.agent(sweep)
            while True:
                (order,) = client.heartbeat(agent)
                heartbeats += 1
                if order["type"] == "exit":
                    return heartbeats
                with lock:
                    taken.append((order["args"]["a"]["value"], order["args"]["b"]["value"]))
                client.heartbeat(agent, order["run_id"])
                heartbeats += 1

    begun = time.monotonic()
    with ThreadPoolExecutor(24) as pool:
        heartbeats = sum(pool.map(work, range(24)))
    took = time.monotonic() - begun
    print(f"{heartbeats} heartbeats of 24 agents in {took:.2f} s: {heartbeats / took:.0f}/s")
    assert sorted(taken) == sorted(points)


def test_a_run_whose_end_and_heartbeat_come_in_the_same_moment_is_finished(protocol: Protocol, server):
    points = list(range(80))
    sweep = protocol.create_sweep(method="grid", parameters={"x": {"values": points}})
    taken: dict[str, int] = {}
    orders: list[str] = []

    def work(number: int) -> None:
        """Sends a run's last words and, on another connection and without waiting, its agent's next heartbeat."""
        with Protocol(server) as client, Protocol(server) as run, ThreadPoolExecutor(1) as aside:
            agent = client.agent(sweep)
            (order,) = client.heartbeat(agent)
            while order["type"] == "run":
                name = order["run_id"]
                orders.append(name)
                taken[name] = order["args"]["x"]["value"]
                run.start_run(name, sweep=sweep)
                said = aside.submit(run.finish, name, 0, {"loss": 1})
                if number % 2:
                    time.sleep(0.002)
                (order,) = client.heartbeat(agent)
                said.result()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert sorted(taken.values()) == points
    assert len(orders) == len(points)
    assert protocol.sweep(sweep)["state"] == "FINISHED"
    assert set(protocol.states(sweep)) == {"finished"}


def test_the_last_words_of_a_run_count_even_after_it_was_given_up(protocol: Protocol):
    sweep = protocol.create_sweep(method="grid", parameters={"x": {"values": [1, 2]}})
    agent = protocol.agent(sweep)
    late, silent = protocol.take_run(agent)["run_id"], protocol.take_run(agent)["run_id"]
    assert protocol.runs(sweep)[late]["state"] == "failed"
    assert protocol.heartbeat(agent) == [{"type": "exit"}]
    assert protocol.sweep(sweep)["state"] == "FINISHED"
    for run in (late, silent):
        protocol.start_run(run)
        protocol.finish(run)
    assert protocol.states(sweep) == ["finished", "finished"]


def test_a_preempted_run_is_resumed_once_however_often_it_tells_its_end(protocol: Protocol):
    sweep = protocol.create_sweep(method="grid", parameters={"x": {"values": [1]}})
    first, others = protocol.agent(sweep), [protocol.agent(sweep) for _ in range(4)]
    run = protocol.take_run(first)["run_id"]
    protocol.start_run(run)
    protocol.stream(run, preempting=True)
    # Its process is gone, its last words are under way.
    assert [protocol.heartbeat(agent) for agent in (first, *others)] == [[]] * 5
    protocol.finish(run, 1)
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(protocol.heartbeat, (first, *others)))
    assert [order["type"] for answer in answers for order in answer].count("resume") == 1
    protocol.finish(run, 1)
    assert protocol.states(sweep) == ["pending"]
    assert protocol.sweep(sweep)["state"] == "RUNNING"
    protocol.start_run(run)
    protocol.finish(run)
    assert protocol.states(sweep) == ["finished"]
    assert protocol.sweep(sweep)["state"] == "FINISHED"


def test_a_sweep_whose_last_run_ended_in_a_pause_is_over_when_it_goes_on(protocol: Protocol):
    sweep = protocol.create_sweep(method="grid", parameters={"x": {"values": [1]}})
    run = protocol.take_run(protocol.agent(sweep))["run_id"]
    protocol.start_run(run)
    protocol.set_state(sweep, "PAUSED")
    protocol.finish(run)
    assert protocol.sweep(sweep)["state"] == "PAUSED"
    protocol.set_state(sweep, "RUNNING")
    assert protocol.sweep(sweep)["state"] == "FINISHED"


def test_run_cap_ends_a_random_sweep(protocol: Protocol):
    sweep = protocol.create_sweep(method="random", run_cap=2, parameters={"x": {"min": 0.0, "max": 1.0}})
    agent, other = protocol.agent(sweep), protocol.agent(sweep)
    runs = [protocol.take_run(agent)["run_id"], protocol.take_run(other)["run_id"]]
    third = protocol.agent(sweep)
    assert protocol.heartbeat(third) == [{"type": "exit"}]
    assert protocol.sweep(sweep)["state"] == "RUNNING"
    for run in runs:
        protocol.start_run(run)
        protocol.finish(run)
    assert protocol.sweep(sweep)["state"] == "FINISHED"


def test_the_same_seed_gives_the_same_random_points(serve, tmp_path):
    def points(client: Protocol) -> list[float]:
        sweep = client.create_sweep(method="random", parameters={"x": {"min": 0.0, "max": 1.0}})
        return [client.take_run(client.agent(sweep))["args"]["x"]["value"] for _ in range(50)]

    with Protocol(serve(tmp_path / "a", "--seed", "1")) as one, Protocol(serve(tmp_path / "b", "--seed", "1")) as other:
        first, second = points(one), points(one)
        assert len({*first, *second}) == 100
        assert [points(other), points(other)] == [first, second]


def test_bayes_gives_points_in_the_background(protocol: Protocol):
    sweep = protocol.create_sweep(
        method="bayes", metric={"name": "loss", "goal": "minimize"}, parameters={"x": {"min": 0.0, "max": 1.0}}
    )
    agent = protocol.agent(sweep)
    for _ in range(3):
        (order,) = wait_until(lambda: protocol.heartbeat(agent), what="bayes has drawn a point")
        value = order["args"]["x"]["value"]
        assert 0 <= value <= 1
        protocol.start_run(order["run_id"])
        protocol.finish(order["run_id"], summary={"loss": value})


@pytest.mark.parametrize(
    ("exit_code", "state"), [(0, "finished"), (1, "failed"), (137, "failed"), (254, "crashed"), (255, "killed")]
)
def test_the_exit_code_decides_the_state(protocol: Protocol, exit_code: int, state: str):
    sweep = protocol.create_sweep(**GRID)
    run = protocol.take_run(protocol.agent(sweep))["run_id"]
    assert protocol.states(sweep) == ["pending"]
    protocol.start_run(run)
    assert protocol.states(sweep) == ["running"]
    protocol.finish(run, exit_code)
    assert protocol.states(sweep) == [state]


def test_a_run_that_died_before_it_began_has_failed_and_the_next_point_comes_at_once(protocol: Protocol):
    sweep = protocol.create_sweep(**GRID)
    agent = protocol.agent(sweep)
    first = protocol.take_run(agent)["run_id"]
    second = protocol.take_run(agent)["run_id"]
    states = {name: run["state"] for name, run in protocol.runs(sweep).items()}
    assert states == {first: "failed", second: "pending"}


def test_a_running_run_that_its_agent_no_longer_has_crashes_and_holds_up_nobody(protocol: Protocol):
    sweep = protocol.create_sweep(**GRID)
    agent = protocol.agent(sweep)
    first = protocol.take_run(agent)["run_id"]
    protocol.start_run(first)
    assert protocol.heartbeat(agent, first) == []
    protocol.take_run(agent)
    assert protocol.runs(sweep)[first]["state"] == "running"
    wait_until(lambda: protocol.runs(sweep)[first]["state"] == "crashed", what="it has crashed")


def test_a_crashed_run_that_speaks_again_runs_again(protocol: Protocol):
    sweep = protocol.create_sweep(**GRID)
    agent = protocol.agent(sweep)
    run = protocol.take_run(agent)["run_id"]
    protocol.start_run(run)
    protocol.heartbeat(agent)
    wait_until(lambda: protocol.runs(sweep)[run]["state"] == "crashed", what="it has crashed")
    protocol.log(run, [{"_step": 0, "loss": 1}])
    assert protocol.runs(sweep)[run]["state"] == "running"


def test_a_silent_run_has_crashed(serve, tmp_path):
    with Protocol(serve(tmp_path / "data", "--crash-after", "0.3")) as client:
        sweep = client.create_sweep(**GRID)
        run = client.take_run(client.agent(sweep))["run_id"]
        client.start_run(run)
        wait_until(lambda: client.states(sweep) == ["crashed"], what="the silent run is given up")


def test_a_preempted_run_is_resumed_before_any_new_point(protocol: Protocol):
    sweep = protocol.create_sweep(**GRID)
    agent = protocol.agent(sweep)
    order = protocol.take_run(agent)
    run = order["run_id"]
    protocol.start_run(run)
    protocol.stream(run, preempting=True)
    protocol.finish(run, 1)
    assert protocol.states(sweep) == ["preempted"]
    (again,) = protocol.heartbeat(protocol.agent(sweep))
    assert (again["type"], again["run_id"], again["args"]) == ("resume", run, order["args"])


def test_an_agent_waits_while_a_run_may_come_back(protocol: Protocol):
    sweep = protocol.create_sweep(method="grid", parameters={"x": {"values": [1]}})
    run = protocol.take_run(protocol.agent(sweep))["run_id"]
    protocol.start_run(run)
    protocol.stream(run, preempting=True)
    waiting = protocol.agent(sweep)
    assert protocol.heartbeat(waiting) == []
    protocol.finish(run, 1)
    assert protocol.sweep(sweep)["state"] == "RUNNING"
    assert protocol.heartbeat(waiting)[0]["type"] == "resume"


def test_a_paused_sweep_gives_nothing_until_it_goes_on(protocol: Protocol):
    sweep = protocol.create_sweep(**GRID)
    agent = protocol.agent(sweep)
    protocol.set_state(sweep, "PAUSED")
    assert protocol.heartbeat(agent) == []
    protocol.set_state(sweep, "RUNNING")
    protocol.take_run(agent)


def test_a_stopped_sweep_lets_its_runs_end(protocol: Protocol):
    sweep = protocol.create_sweep(**GRID)
    agent = protocol.agent(sweep)
    run = protocol.take_run(agent)["run_id"]
    protocol.start_run(run)
    protocol.set_state(sweep, "FINISHED")
    assert protocol.heartbeat(agent, run) == []
    assert protocol.stream(run).json() == {}
    protocol.finish(run)
    assert protocol.heartbeat(agent) == [{"type": "exit"}]
    assert protocol.states(sweep) == ["finished"]


def test_a_cancelled_sweep_asks_its_runs_to_stop_and_then_ends_them(protocol: Protocol):
    sweep = protocol.create_sweep(**GRID)
    agent = protocol.agent(sweep)
    run = protocol.take_run(agent)["run_id"]
    protocol.start_run(run)
    protocol.set_state(sweep, "CANCELED")
    assert protocol.stream(run).json() == {"stopped": True}
    stop = [{"type": "stop", "run_id": run}]
    assert protocol.heartbeat(agent, run) == []
    wait_until(lambda: protocol.heartbeat(agent, run) == stop, what="the agent is told to end it")
    assert protocol.heartbeat(agent, run) == stop
    protocol.finish(run, 1)
    assert protocol.states(sweep) == ["killed"]
    assert protocol.heartbeat(agent) == [{"type": "exit"}]


@pytest.mark.parametrize("state", ["FINISHED", "CANCELED"])
def test_an_ended_sweep_takes_no_agent(protocol: Protocol, state: str):
    sweep = protocol.create_sweep(**GRID)
    protocol.set_state(sweep, state)
    answer = protocol.post(CREATE_AGENT, host="h", sweep=sweep, projectName="tests", entityName="local")
    assert answer.status_code == 400
    assert answer.json()["errors"] == [{"message": f"Sweep {sweep} is not running"}]


def test_what_is_not_there(protocol: Protocol):
    known = protocol.create_sweep(**GRID)
    assert protocol.data(SWEEP, entity="local", project="tests", sweep="nosuch")["project"] == {"sweep": None}
    assert protocol.data(SWEEP, entity="local", project="nosuch", sweep=known)["project"] is None
    assert protocol.post(CREATE_AGENT, host="h", sweep="nosuch").status_code == 404
    assert protocol.post(HEARTBEAT, id="nosuch", metrics="{}", runState="{}").status_code == 404


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"method": "grid"}, ["parameters"]),
        ({"parameters": {"x": {"value": 1}}}, ["method"]),
        ({"method": "grid", "parameters": {"x": {"min": 0.0, "max": 1.0}}}, ["grid"]),
        ({"method": "random", "parameters": {"x": {"min": 2, "max": 1}, "y": {"vlaues": [1]}}}, ["min 2", "y"]),
        ({"method": "random", "run_cap": 0, "parameters": {"x": {"value": 1}}}, ["run_cap"]),
        ({"method": "annealing", "parameters": {"x": {"value": 1}}}, ["annealing"]),
    ],
)
def test_a_sweep_that_cannot_be_searched_is_refused_with_all_that_is_wrong(protocol: Protocol, config, named):
    answer = protocol.post(CREATE_SWEEP, config=json.dumps(config), projectName="tests")
    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert all(word in error["message"] for word in named), error


def test_what_only_breaks_the_schema_is_a_warning(protocol: Protocol):
    data = protocol.data(CREATE_SWEEP, config=json.dumps({**GRID, "metric": {"goal": "minimize"}}), projectName="p")
    assert any("name" in warning for warning in data["upsertSweep"]["configValidationWarnings"])


def test_a_changed_config_is_searched_from_then_on(protocol: Protocol):
    sweep = protocol.create_sweep(**GRID)
    agent = protocol.agent(sweep)
    assert protocol.take_run(agent)["args"] == {"x": {"value": 3}}
    changed = {**GRID, "parameters": {"x": {"values": [3, 9]}}}
    protocol.data(CREATE_SWEEP, id=sweep, config=json.dumps(changed))
    assert protocol.take_run(agent)["args"] == {"x": {"value": 9}}
    assert protocol.heartbeat(agent) == [{"type": "exit"}]


def test_a_heartbeat_is_answered_at_once(protocol: Protocol):
    sweep = protocol.create_sweep(**GRID)
    agent = protocol.agent(sweep)
    run = protocol.take_run(agent)["run_id"]
    times = []
    for _ in range(50):
        begun = time.monotonic()
        protocol.heartbeat(agent, run)
        times.append(time.monotonic() - begun)
    # A sending side that waits for more to send would make it 40 ms.
    assert statistics.median(times) < 0.035
