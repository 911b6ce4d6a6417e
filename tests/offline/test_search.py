"""The search: points chosen ahead by a process of its own, each handed out once, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from offline.clients import CREATE_SWEEP, Protocol, Wandb
from support import alive, commands, wait_until

from wandb_submit.server.control.lifecycle import ServerInfo
from wandb_submit.server.storage.tables import STEPS

METRIC = {"name": "loss", "goal": "minimize"}
BAYES = {"method": "bayes", "metric": METRIC, "parameters": {"x": {"min": 0.0, "max": 1.0}, "k": {"values": [1, 2, 3]}}}
UPSERT = """
mutation UpsertSweep($id: ID, $config: String, $projectName: String, $entityName: String, $state: String,
                     $priorRunsFilters: JSONString) {
  upsertSweep(input: {id: $id, config: $config, projectName: $projectName, entityName: $entityName, state: $state,
                      priorRunsFilters: $priorRunsFilters}) {
    sweep { name state } configValidationWarnings
  }
}
"""
PRIOR = """
query Prior($sweep: String!, $entity: String, $project: String) {
  project(name: $project, entityName: $entity) { sweep(sweepName: $sweep) {
    runCountExpected priorRuns { edges { node { id name } } } } }
}
"""


def search_processes(server: int) -> list[int]:
    """The search processes of a server."""
    return [
        pid
        for pid, arguments in commands().items()
        if "wandb_submit.server.engine" in arguments and str(server) in arguments
    ]


def take(protocol: Protocol, agent: str) -> dict:
    """An agent's next order; it asks again while the search is at work."""
    (order,) = wait_until(lambda: protocol.heartbeat(agent), what="there is an order")
    return order


def point(order: dict) -> dict:
    return {name: entry["value"] for name, entry in order["args"].items()}


def stock(data_dir: Path, sweep: str) -> list[tuple[int, int]]:
    """The points that wait for agents: their numbers, and how many runs had ended when they were chosen."""
    with sqlite3.connect(data_dir / "server.sqlite3") as connection:
        rows = connection.execute(
            "SELECT points.number, known FROM points JOIN sweeps ON sweeps.number = points.sweep WHERE id = ?"
            " AND run IS NULL ORDER BY points.number",
            (sweep,),
        ).fetchall()
    connection.close()
    return rows


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from(["take", "die", "finish", "crash", "leave"])), max_size=60
    )
)
@settings(max_examples=12, deadline=None)
def test_no_point_comes_twice_and_none_is_lost_whatever_agents_do(server: ServerInfo, steps: list[tuple[int, str]]):
    wanted = [(a, b) for a in range(4) for b in range(3)]
    with Protocol(server) as protocol:
        sweep = protocol.create_sweep(
            method="grid", parameters={"a": {"values": [0, 1, 2, 3]}, "b": {"min": 0, "max": 2}}
        )
        agents = [protocol.agent(sweep) for _ in range(5)]
        runs: dict[int, str] = {}
        seen = []

        def step(who: int, what: str) -> bool:
            if what == "leave":
                agents[who] = protocol.agent(sweep)
                runs.pop(who, None)
            elif who in runs and what == "finish":
                protocol.start_run(runs[who])
                protocol.finish(runs.pop(who), summary={"loss": 1})
            elif who in runs and what == "crash":
                protocol.start_run(runs[who])
                protocol.finish(runs.pop(who), 1)
            elif what in ("take", "die"):
                order = take(protocol, agents[who])
                if order["type"] == "exit":
                    return False
                seen.append((point(order)["a"], point(order)["b"]))
                if what == "take":
                    runs[who] = order["run_id"]
            return True

        ended = not all(step(who, what) for who, what in steps)
        while not ended:
            ended = not step(0, "take")
        assert sorted(seen) == wanted


def test_a_grid_of_several_blocks_is_handed_out_once_through_kills_of_server_and_search(serve, tmp_path: Path):
    wanted = 1100
    config = {"method": "grid", "parameters": {"a": {"min": 0, "max": wanted - 1}}}
    seen: list[int] = []
    chance = random.Random(5)
    first = serve(tmp_path / "data")
    with Protocol(first) as protocol:
        sweep = protocol.create_sweep(**config)
    info = first
    for _ in range(3):
        with Protocol(info) as protocol:
            agents = [protocol.agent(sweep) for _ in range(20)]
            for _ in range(wanted // 4):
                order = take(protocol, chance.choice(agents))
                if order["type"] == "run":
                    seen.append(point(order)["a"])
            for pid in search_processes(info.pid):
                os.kill(pid, signal.SIGKILL)
        os.kill(info.pid, signal.SIGKILL)
        wait_until(lambda pid=info.pid: not alive(pid), what="the server is gone")
        info = serve(tmp_path / "data")
    with Protocol(info) as protocol:
        agent = protocol.agent(sweep)
        while (order := take(protocol, agent))["type"] == "run":
            seen.append(point(order)["a"])
    assert sorted(seen) == list(range(wanted))


def test_a_grid_that_an_older_server_began_goes_on(serve, tmp_path: Path):
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    config = {"method": "grid", "parameters": {"x": {"values": [1, 2, 3, 4]}}}
    with sqlite3.connect(data_dir / "server.sqlite3") as database:
        database.executescript(f"{STEPS[0]} PRAGMA user_version=1;")
        database.execute("INSERT INTO projects VALUES (1, 'local', 'tests', 1)")
        database.execute(
            "INSERT INTO sweeps (number, id, project, config, state, created_at, updated_at)"
            " VALUES (1, 'older', 1, ?, 'RUNNING', 1, 1)",
            (json.dumps(config),),
        )
        database.execute(
            "INSERT INTO runs (id, project, name, sweep, state, display_name, created_at, heartbeat_at)"
            " VALUES (1, 1, 'first', 1, 'finished', 'first', 1, 1)"
        )
        for number, run in ((1, 1), (2, None)):
            database.execute("INSERT INTO points VALUES (1, ?, ?, ?)", (number, f'{{"x": {{"value": {number}}}}}', run))
    database.close()
    with Protocol(serve(data_dir)) as protocol:
        agent = protocol.agent("older")
        orders = [take(protocol, agent) for _ in range(4)]
    assert [point(order) for order in orders[:3]] == [{"x": 2}, {"x": 3}, {"x": 4}]
    assert orders[3] == {"type": "exit"}


def test_the_server_never_loads_the_engine_and_its_search_ends_with_it(serve, tmp_path: Path):
    info = serve(tmp_path / "data")
    assert search_processes(info.pid) == []
    with Protocol(info) as protocol:
        sweep = protocol.create_sweep(**BAYES)
        take(protocol, protocol.agent(sweep))
    maps = Path(f"/proc/{info.pid}/maps").read_text()
    assert "numpy" not in maps
    assert "scipy" not in maps
    (search,) = search_processes(info.pid)
    os.kill(info.pid, signal.SIGKILL)
    wait_until(lambda: not alive(search), what="the search has ended with its server")


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_a_search_that_is_killed_is_started_again(serve, tmp_path: Path, method: str):
    info = serve(tmp_path / "data")
    with Protocol(info) as protocol:
        sweep = protocol.create_sweep(**{**BAYES, "method": method})
        agent = protocol.agent(sweep)
        for _ in range(2):
            for pid in search_processes(info.pid):
                os.kill(pid, signal.SIGKILL)
            for _ in range(40 if method == "random" else 3):
                assert take(protocol, agent)["type"] == "run"
        other = protocol.create_sweep(method="grid", parameters={"x": {"values": [1]}})
        assert protocol.take_run(protocol.agent(other))["args"] == {"x": {"value": 1}}


def bayes_points(info: ServerInfo, count: int) -> list[dict]:
    """Points of one agent that waits for the search to know each of its results."""
    data_dir = Path(info.data_dir)
    with Protocol(info) as protocol:
        sweep = protocol.create_sweep(**BAYES)
        agent, found = protocol.agent(sweep), []
        for ended in range(count):
            wait_until(
                lambda ended=ended: [known for _, known in stock(data_dir, sweep)] == [ended],
                what="the next point is chosen",
            )
            order = protocol.take_run(agent)
            found.append(point(order))
            protocol.start_run(order["run_id"])
            protocol.finish(order["run_id"], summary={"loss": (found[-1]["x"] - 0.3) ** 2 + found[-1]["k"]})
    return found


def test_bayes_learns_and_gives_the_same_points_for_the_same_seed(serve, tmp_path: Path):
    first = bayes_points(serve(tmp_path / "a", "--seed", "3"), 8)
    assert bayes_points(serve(tmp_path / "b", "--seed", "3"), 8) == first
    assert bayes_points(serve(tmp_path / "c", "--seed", "4"), 2) != first[:2]
    assert min((one["x"] - 0.3) ** 2 + one["k"] for one in first) < 1.1


def test_random_points_depend_on_seed_and_number_alone(serve, tmp_path: Path):
    config = {"method": "random", "parameters": {"x": {"min": 0.0, "max": 1.0}}}

    def points(info: ServerInfo, agents: int) -> list[float]:
        with Protocol(info) as protocol:
            sweep = protocol.create_sweep(**config)
            crowd = [protocol.agent(sweep) for _ in range(agents)]
            return [point(take(protocol, crowd[number % agents]))["x"] for number in range(100)]

    one, other = serve(tmp_path / "a", "--seed", "1"), serve(tmp_path / "b", "--seed", "1")
    first, second = points(one, 1), points(one, 30)
    assert len({*first, *second}) == 200
    assert [points(other, 20), points(other, 1)] == [first, second]


def test_parallel_agents_of_bayes_wait_for_nobody(server: ServerInfo, protocol: Protocol):
    sweep = protocol.create_sweep(**BAYES)
    agents = [protocol.agent(sweep) for _ in range(4)]
    data_dir = Path(server.data_dir)
    wait_until(lambda: len(stock(data_dir, sweep)) == 4, what="there is a point for each agent")
    orders = [protocol.take_run(agent) for agent in agents]
    assert len({json.dumps(order["args"]) for order in orders}) == 4
    wait_until(lambda: len(stock(data_dir, sweep)) == 4, what="there are points again")
    for order in orders:
        protocol.start_run(order["run_id"])
        protocol.finish(order["run_id"], summary={"loss": 1.0})
        # Whatever the search knows by now.
        assert protocol.heartbeat(agents[0])[0]["type"] == "run"


def test_results_that_bayes_cannot_understand_do_not_end_the_search(server: ServerInfo, protocol: Protocol):
    sweep = protocol.create_sweep(**BAYES)
    agent = protocol.agent(sweep)
    odd = [
        {"loss": float("nan")},
        {"loss": "NaN"},
        {"loss": None},
        {},
        {"loss": {"min": 1}},
        {"loss": 1e308},
        {"loss": True},
    ]
    for summary in odd:
        order = take(protocol, agent)
        protocol.start_run(order["run_id"])
        line = json.dumps(summary)
        protocol.stream(order["run_id"], files={"wandb-summary.json": {"offset": 0, "content": [line]}})
        protocol.finish(order["run_id"])
    for name, config in (("odd1", {"k": {"value": 99}}), ("odd2", {"x": {"value": "text"}}), ("odd3", {"x": 5})):
        protocol.start_run(f"{name}-{sweep}", sweep=sweep, config=json.dumps(config))
        protocol.finish(f"{name}-{sweep}", summary={"loss": 0.5})
    ended = len(odd) + 3
    wait_until(
        lambda: [known for _, known in stock(Path(server.data_dir), sweep)] == [ended],
        what="all is known",
    )
    assert 0 <= point(take(protocol, agent))["x"] <= 1
    assert "random ones instead" not in (Path(server.data_dir) / "server.log").read_text()


def test_an_update_counts_what_was_tried_and_drops_what_was_not_handed_out(protocol: Protocol):
    sweep = protocol.create_sweep(method="grid", parameters={"x": {"values": [1, 2, 3, 4]}})
    agent = protocol.agent(sweep)
    assert [point(protocol.take_run(agent)) for _ in range(2)] == [{"x": 1}, {"x": 2}]
    changed = {"method": "grid", "parameters": {"x": {"values": [2, 4, 9]}}}
    for _ in range(2):
        protocol.data(CREATE_SWEEP, id=sweep, config=json.dumps(changed))
    assert protocol.sweep(sweep)["runCountExpected"] == 3
    assert [point(protocol.take_run(agent)) for _ in range(2)] == [{"x": 4}, {"x": 9}]
    assert protocol.heartbeat(agent) == [{"type": "exit"}]
    refused = protocol.post(CREATE_SWEEP, id=sweep, config="method: grid")
    assert refused.status_code == 400
    assert json.loads(protocol.sweep(sweep)["config"]) == changed


def test_another_method_goes_on_with_the_same_runs(protocol: Protocol):
    sweep = protocol.create_sweep(**{**BAYES, "method": "random"})
    agent = protocol.agent(sweep)
    for _ in range(3):
        order = take(protocol, agent)
        protocol.start_run(order["run_id"])
        protocol.finish(order["run_id"], summary={"loss": 1})
    protocol.data(CREATE_SWEEP, id=sweep, config=json.dumps(BAYES))
    assert take(protocol, agent)["type"] == "run"
    grid = {"method": "grid", "run_cap": 6, "parameters": {"x": {"values": [1, 2, 3, 4]}, "k": {"value": 1}}}
    protocol.data(CREATE_SWEEP, id=sweep, config=json.dumps(grid))
    assert [point(take(protocol, agent)) for _ in range(2)] == [{"k": 1, "x": 1}, {"k": 1, "x": 2}]
    assert protocol.heartbeat(agent) == [{"type": "exit"}]


def test_prior_runs_count_as_tried_and_belong_to_the_sweep(protocol: Protocol):
    for name, value in (("prior1", 2), ("prior2", 3), ("other", 1)):
        protocol.start_run(name, config=json.dumps({"x": {"value": value}}))
        protocol.finish(name, summary={"loss": value})
    grid = {"method": "grid", "metric": METRIC, "run_cap": 2, "parameters": {"x": {"values": [1, 2, 3, 4]}}}
    filters = json.dumps({"$or": [{"name": "prior1"}, {"name": "prior2"}, {"name": "nobody"}]})
    made = protocol.data(
        UPSERT, config=json.dumps(grid), projectName="tests", entityName="local", priorRunsFilters=filters
    )["upsertSweep"]
    assert [warning for warning in made["configValidationWarnings"] if "nobody" in warning]
    sweep = made["sweep"]["name"]
    shown = protocol.data(PRIOR, sweep=sweep, entity="local", project="tests")["project"]["sweep"]
    assert [edge["node"]["name"] for edge in shown["priorRuns"]["edges"]] == ["prior1", "prior2"]
    assert protocol.runs(sweep).keys() == {"prior1", "prior2"}
    agent = protocol.agent(sweep)
    orders = [protocol.take_run(agent) for _ in range(2)]
    assert [point(order) for order in orders] == [{"x": 1}, {"x": 4}]
    assert protocol.heartbeat(agent) == [{"type": "exit"}]
    assert protocol.sweep(sweep)["bestLoss"] == 2


def test_the_command_line_takes_prior_runs_and_updates(wandb: Wandb, protocol: Protocol):
    for name, value in (("cli1", 2), ("cli2", 3)):
        protocol.start_run(name, config=json.dumps({"x": {"value": value}}))
        protocol.finish(name, summary={"loss": value})
    (wandb.folder / "s.yaml").write_text("program: t.py\nmethod: grid\nparameters: {x: {values: [1, 2, 3]}}\n")
    made = wandb.run("wandb", "sweep", "--project", "tests", "-R", "cli1", "--prior_run", "cli2", "s.yaml")
    assert made.returncode == 0, made.stdout
    sweep = re.search(r"wandb agent local/tests/(\w+)", made.stdout)[1]
    agent = protocol.agent(sweep)
    assert point(protocol.take_run(agent)) == {"x": 1}
    (wandb.folder / "s.yaml").write_text("program: t.py\nmethod: grid\nparameters: {x: {values: [1, 2, 5]}}\n")
    changed = wandb.run("wandb", "sweep", "--project", "tests", "--update", f"local/tests/{sweep}", "s.yaml")
    assert changed.returncode == 0, changed.stdout
    assert point(protocol.take_run(agent)) == {"x": 5}
    assert protocol.heartbeat(agent) == [{"type": "exit"}]


def test_a_target_that_is_reached_ends_the_sweep_with_its_running_runs(protocol: Protocol):
    sweep = protocol.create_sweep(
        method="random",
        metric={"name": "val.acc", "goal": "maximize", "target": 0.9},
        parameters={"x": {"min": 0.0, "max": 1.0}},
    )
    agents = [protocol.agent(sweep) for _ in range(2)]
    one, other = (protocol.take_run(agent)["run_id"] for agent in agents)
    for run in (one, other):
        protocol.start_run(run)
    protocol.log(one, [{"_step": 0, "val": {"acc": 0.5}}])
    protocol.log(other, [{"_step": 0, "val": {"acc": 0.95}}, {"_step": 1, "val": {"acc": 0.2}}])
    protocol.finish(other, summary={"val": {"acc": 0.2}})
    wait_until(lambda: protocol.heartbeat(agents[1]) == [{"type": "exit"}], what="no more runs")
    assert protocol.sweep(sweep)["state"] == "RUNNING"
    protocol.finish(one)
    assert protocol.sweep(sweep)["state"] == "FINISHED"


def test_odd_sequences_of_states(protocol: Protocol):
    sweep = protocol.create_sweep(method="grid", parameters={"x": {"values": [1, 2, 3]}})
    assert protocol.sweep(sweep)["state"] == "PENDING"
    protocol.set_state(sweep, "PAUSED")
    agent = protocol.agent(sweep)
    assert protocol.heartbeat(agent) == []
    protocol.set_state(sweep, "FINISHED")
    protocol.set_state(sweep, "PAUSED")
    protocol.set_state(sweep, "RUNNING")
    run = protocol.take_run(agent)["run_id"]
    protocol.start_run(run)
    protocol.set_state(sweep, "CANCELED")
    assert protocol.stream(run).json() == {"stopped": True}
    protocol.finish(run, 255)
    assert protocol.states(sweep) == ["killed"]
    protocol.set_state(sweep, "RUNNING")
    for value in (2, 3):
        order = protocol.take_run(agent)
        assert point(order) == {"x": value}
        protocol.start_run(order["run_id"])
        protocol.finish(order["run_id"])
    assert protocol.sweep(sweep)["state"] == "FINISHED"
    protocol.set_state(sweep, "RUNNING")
    assert protocol.sweep(sweep)["state"] == "RUNNING"
    assert protocol.heartbeat(agent) == [{"type": "exit"}]
    assert protocol.sweep(sweep)["state"] == "FINISHED"
    assert Counter(protocol.states(sweep)) == {"finished": 2, "killed": 1}
    assert protocol.post(CREATE_SWEEP, id=sweep, state="MELTED").status_code == 400
    assert protocol.post(CREATE_SWEEP, id="nosuch", state="PAUSED").status_code == 404


def test_a_burst_of_agents_gets_points_at_once(protocol: Protocol, server: ServerInfo):
    sweep = protocol.create_sweep(method="random", parameters={"x": {"min": 0.0, "max": 1.0}})
    agents = [protocol.agent(sweep) for _ in range(200)]
    wait_until(lambda: len(stock(Path(server.data_dir), sweep)) >= 200, what="there is a point for each")
    assert len({protocol.take_run(agent)["run_id"] for agent in agents}) == 200


def test_heartbeats_are_answered_while_bayes_computes(protocol: Protocol, server: ServerInfo):
    sweep = protocol.create_sweep(**BAYES)
    agent = protocol.agent(sweep)
    run = take(protocol, agent)["run_id"]
    protocol.start_run(run)
    for number in range(40):
        config = json.dumps({"x": {"value": number / 40}, "k": {"value": 1}})
        protocol.start_run(f"{sweep}-{number}", sweep=sweep, config=config)
        protocol.finish(f"{sweep}-{number}", summary={"loss": number})
        begun = time.monotonic()
        assert protocol.heartbeat(agent, run) == []
        print(f"{time.monotonic() - begun:.4f}", end=" ")
    wait_until(lambda: [known for _, known in stock(Path(server.data_dir), sweep)] == [40], what="all is known")


def test_a_sweep_whose_points_cannot_be_drawn_ends_and_says_why(server: ServerInfo, protocol: Protocol):
    sweep = protocol.create_sweep(method="random", parameters={"x": {"min": 0.0, "max": 1.0}})
    # As an earlier version would have taken it.
    config = "{method: random, parameters: {wide: {min: -1.7e+308, max: 1.7e+308}}}"
    with sqlite3.connect(server.data_dir / "server.sqlite3") as database:
        database.execute("UPDATE sweeps SET config = ? WHERE id = ?", (config, sweep))
    agent = protocol.agent(sweep)

    def leaves() -> bool:
        orders = protocol.heartbeat(agent)
        if orders and orders[0]["type"] == "run":
            protocol.start_run(orders[0]["run_id"], sweep=sweep)
            protocol.finish(orders[0]["run_id"])
        return [order["type"] for order in orders] == ["exit"]

    wait_until(leaves, what="the agent is told to leave")
    query = 'query($s: String!) { project(name: "tests") { sweep(sweepName: $s) { state description } } }'
    told = protocol.data(query, s=sweep)["project"]["sweep"]
    assert told["state"] == "FINISHED"
    assert "'wide' draws values that are too large for a number" in told["description"]
