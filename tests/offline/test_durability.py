"""What the server has acknowledged survives its being killed."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from dataclasses import dataclass, field

import httpx
from offline.clients import Protocol
from support import wait_until

from wandb_submit.server.control import lifecycle
from wandb_submit.server.control.lifecycle import ServerInfo

KILLS = int(os.environ.get("KILLS", "2"))
POINTS = list(range(150 * KILLS))
GRID = {"program": "train.py", "method": "grid", "parameters": {"x": {"values": POINTS}}}


@dataclass
class Acknowledged:
    """What the server has told several clients that it has."""

    taken: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)

    def work(self, info: ServerInfo, sweep: str, most: int) -> None:
        """Takes runs and logs to them until the server is gone, or there are `most`."""
        try:
            with Protocol(info) as client:
                agent = client.agent(sweep)
                while len(self.taken) < most:
                    orders = client.heartbeat(agent)
                    if not orders:  # the search that begins anew with the server is not ready yet
                        time.sleep(0.02)
                        continue
                    (order,) = orders
                    run = order["run_id"]
                    assert self.taken.setdefault(run, order["args"]["x"]["value"]) == order["args"]["x"]["value"]
                    client.start_run(run, sweep=sweep)
                    client.heartbeat(agent, run)
                    for number in range(5):
                        client.log(run, [{"_step": number}], offset=number)
                        self.rows[run] = number + 1
        except httpx.HTTPError:
            pass


def points(client: Protocol, sweep: str) -> dict[str, int]:
    """The points of all runs of a sweep that the server knows."""
    query = """query($filters: JSONString!, $after: String) { project(name: "tests", entityName: "local") {
        runs(filters: $filters, first: 1000, after: $after) {
            edges { node { name config } } pageInfo { endCursor hasNextPage } } } }"""
    found: dict[str, int] = {}
    after = None
    while True:
        page = client.data(query, filters=json.dumps({"sweep": sweep}), after=after)["project"]["runs"]
        nodes = [edge["node"] for edge in page["edges"]]
        found |= {node["name"]: json.loads(node["config"])["x"]["value"] for node in nodes}
        if not page["pageInfo"]["hasNextPage"]:
            return found
        after = page["pageInfo"]["endCursor"]


def test_nothing_acknowledged_is_lost_and_nothing_is_handed_out_twice(serve, tmp_path):
    """Kills the server at random moments under load; `KILLS=200` so often."""
    moments = random.Random(os.environ.get("SEED"))
    info = serve(tmp_path / "data")
    with Protocol(info) as client:
        sweep = client.create_sweep(**GRID)
    acknowledged = Acknowledged()
    for number in range(1, KILLS + 1):
        arguments = (info, sweep, 100 * number)
        threads = [threading.Thread(target=acknowledged.work, args=arguments) for _ in range(4)]
        for thread in threads:
            thread.start()
        if number == KILLS:
            wait_until(lambda: acknowledged.rows, what="something was acknowledged")
        time.sleep(moments.uniform(0.02, 1.0))
        os.kill(info.pid, signal.SIGKILL)
        for thread in threads:
            thread.join(60)
        wait_until(lambda: lifecycle.status(tmp_path / "data") is None, what="the server is dead")
        info = serve(tmp_path / "data")

    assert acknowledged.rows
    with Protocol(info) as client:
        known = points(client, sweep)
        assert known.items() >= acknowledged.taken.items()
        for run, count in acknowledged.rows.items():
            query = 'query($n: String!) { project(name: "tests", entityName: "local") { run(name: $n) { history } } }'
            assert len(client.data(query, n=run)["project"]["run"]["history"]) >= count
        agent = client.agent(sweep)
        left: dict[str, int] = {}
        while (orders := client.heartbeat(agent)) == [] or orders[0]["type"] == "run":
            left |= {order["run_id"]: order["args"]["x"]["value"] for order in orders}
        # A run that nobody began, because its order died with the server, goes to the next agent after a time.
        assert not left.keys() & acknowledged.rows.keys()
        assert sorted({**known, **left}.values()) == POINTS


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
