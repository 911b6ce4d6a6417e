"""A data folder of the first version, served on: whoever was at work goes on as if nothing had been."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

from offline.clients import Protocol
from offline.conftest import Serve
from support import wait_until

from wandb_submit.server.storage.tables import STEPS

# As the first version's server leaves it when it is killed: three agents on a grid of five points, one with a run that
# logs, one that was given a run which has not begun, one whose run has ended.
IN_FLIGHT = """
BEGIN;
INSERT INTO settings VALUES ('seed', '7'), ('port', '1');
INSERT INTO projects VALUES (1, 'local', 'old', :now);
INSERT INTO sweeps (number, id, project, config, state, exhausted, created_at, updated_at) VALUES (1, 'grid', 1,
  '{method: grid, metric: {name: loss, goal: minimize}, parameters: {x: {values: [1, 2, 3, 4, 5]}}}', 'RUNNING', 0,
  :now, :now);
INSERT INTO points VALUES (1, 1, '{"x": {"value": 1}}', 1), (1, 2, '{"x": {"value": 2}}', 2),
  (1, 3, '{"x": {"value": 3}}', 3), (1, 4, '{"x": {"value": 4}}', NULL), (1, 5, '{"x": {"value": 5}}', NULL);
INSERT INTO agents VALUES (1, 'logs', 1, 'node', 'RUNNING', :now, :now),
  (2, 'begins', 1, 'node', 'RUNNING', :now, :now), (3, 'asks', 1, 'node', 'RUNNING', :now, :now);
INSERT INTO runs (id, project, name, sweep, agent, state, display_name, point, config, summary, handed_out_by, reported,
                  created_at, heartbeat_at) VALUES
  (1, 1, 'one', 1, 1, 'running', 'run-1', '{"x": {"value": 1}}', '{"x": {"value": 1}}', '{}', 'gone', 1, :now, :now),
  (2, 1, 'two', 1, 2, 'pending', 'run-2', '{"x": {"value": 2}}', '{"x": {"value": 2}}', '{}', 'gone', 0, :now, :now),
  (3, 1, 'three', 1, 3, 'finished', 'run-3', '{"x": {"value": 3}}', '{"x": {"value": 3}}', '{"loss": 3}', 'gone', 0,
   :now, :now);
INSERT INTO history VALUES (1, 'history', 0, 0, '{"_step": 0, "loss": 1}');
COMMIT;
"""


def test_agents_and_runs_of_a_first_versions_folder_go_on(serve: Serve, tmp_path: Path):
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    old = sqlite3.connect(folder / "server.sqlite3")
    old.executescript(f"BEGIN; {STEPS[0]} PRAGMA user_version=1; COMMIT;")
    old.executescript(IN_FLIGHT.replace(":now", str(time.time())))
    old.close()
    with Protocol(serve(folder, "--gone-grace", "0.5"), project="old") as client:
        assert client.heartbeat("logs", "one") == client.heartbeat("begins", "two") == []
        client.log("one", [{"_step": 1, "loss": 0.5}], offset=1)
        client.finish("one", summary={"loss": 0.5})
        assert client.start_run("two", sweep="grid")["inserted"]
        client.finish("two", summary={"loss": 2})
        taken: list[int] = []

        def has_gone() -> bool:
            for order in client.heartbeat("asks"):
                if order["type"] == "exit":
                    return True
                taken.append(order["args"]["x"]["value"])
                client.start_run(order["run_id"], sweep="grid")
                client.finish(order["run_id"], summary={"loss": 4})
            return False

        wait_until(has_gone, what="the agent is told that the grid is done")
        assert taken == [4, 5]
        sweep = client.sweep("grid")
        assert (sweep["state"], sweep["bestLoss"], client.states("grid")) == ("FINISHED", 0.5, ["finished"] * 5)
        points = [json.loads(run["config"])["x"]["value"] for run in client.runs("grid").values()]
        assert sorted(points) == [1, 2, 3, 4, 5]
        assert [order["type"] for order in client.heartbeat("logs")] == ["exit"]
