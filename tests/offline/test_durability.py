"""What the server has acknowledged survives its being killed."""

from __future__ import annotations

import json
import os
import signal
import threading

import httpx
from offline.clients import Protocol
from support import wait_until

from wandb_submit.server import lifecycle

GRID = {"program": "train.py", "method": "grid", "parameters": {"x": {"values": list(range(500))}}}


def test_nothing_acknowledged_is_lost_and_nothing_is_handed_out_twice(serve, tmp_path):
    info = serve(tmp_path / "data")
    with Protocol(info) as client:
        sweep = client.create_sweep(**GRID)
    enough = threading.Event()
    rows: dict[str, int] = {}
    taken: dict[str, int] = {}

    def work() -> None:
        """Takes runs and logs to them until the server is gone; keeps what was acknowledged."""
        try:
            with Protocol(info) as client:
                agent = client.agent(sweep)
                while True:
                    order = client.take_run(agent)
                    run = order["run_id"]
                    taken[run] = order["args"]["x"]["value"]
                    client.start_run(run, sweep=sweep)
                    client.heartbeat(agent, run)
                    for number in range(5):
                        client.log(run, [{"_step": number}], offset=number)
                        rows[run] = number + 1
                    if len(taken) > 60:
                        enough.set()
        except httpx.HTTPError:
            pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert enough.wait(60)
    os.kill(info.pid, signal.SIGKILL)
    for thread in threads:
        thread.join(30)
    wait_until(lambda: lifecycle.status(tmp_path / "data") is None, what="the server is dead")

    with Protocol(serve(tmp_path / "data")) as client:
        runs = client.runs(sweep)
        assert {run: json.loads(runs[run]["config"])["x"]["value"] for run in taken} == taken
        for run, count in rows.items():
            query = 'query($n: String!) { project(name: "tests", entityName: "local") { run(name: $n) { history } } }'
            assert len(client.data(query, n=run)["project"]["run"]["history"]) >= count
        agent = client.agent(sweep)
        left = []
        while (order := client.heartbeat(agent)[0])["type"] == "run":
            left.append(order["args"]["x"]["value"])
        known = [json.loads(run["config"])["x"]["value"] for run in runs.values()]
        assert sorted([*known, *left]) == list(range(500))


def test_an_order_whose_answer_died_with_the_server_is_given_again(serve, tmp_path):
    info = serve(tmp_path / "data")
    with Protocol(info) as client:
        sweep = client.create_sweep(**GRID)
        lost, counting, begun = client.agent(sweep), client.agent(sweep), client.agent(sweep)
        order, counted = client.repeated_heartbeat(lost), client.repeated_heartbeat(counting, metrics='{"answered": 0}')
        other = client.take_run(begun)
        client.heartbeat(begun, other["run_id"])
    os.kill(info.pid, signal.SIGKILL)
    wait_until(lambda: lifecycle.status(tmp_path / "data") is None, what="the server is dead")
    with Protocol(serve(tmp_path / "data")) as client:
        assert client.repeated_heartbeat(lost) == order
        # One that counts the answers tells for sure, however often it asks.
        assert client.repeated_heartbeat(counting, metrics='{"answered": 0}') == counted
        assert client.repeated_heartbeat(counting, metrics='{"answered": 0}') == counted
        assert client.repeated_heartbeat(counting, metrics='{"answered": 1}') != counted
        assert client.runs(sweep)[counted[0]["run_id"]]["state"] == "failed"
        assert client.take_run(begun)["run_id"] != other["run_id"]
        assert client.runs(sweep)[other["run_id"]]["state"] == "failed"
