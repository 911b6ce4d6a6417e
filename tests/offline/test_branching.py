"""Runs that branch off from others, and runs that are rewound, with the real client."""

from __future__ import annotations

import json

import pytest
from offline.clients import Protocol, Wandb

RUN = """
import json, sys, wandb
how, value, rows = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
try:
    with wandb.init(project="branches", **how) as run:
        for row in range(rows):
            run.log({"m": value + row})
        run.summary["by_hand"] = value
        print("RESULT", json.dumps(run.id))
except Exception as error:
    print("RESULT", json.dumps(f"{type(error).__name__}: {error}"))
"""
SHOWN = """
query Shown($name: String!) { project(name: "branches", entityName: "local") { run(name: $name) {
  state config summaryMetrics history historyLineCount
} } }
"""


@pytest.fixture
def shown(protocol: Protocol):
    """What the server shows of a run: its rows as pairs of step and value, its state and configuration."""

    def shown(name: str) -> dict[str, object]:
        run = protocol.data(SHOWN, name=name)["project"]["run"]
        rows = [json.loads(row) for row in run["history"]]
        assert run["historyLineCount"] == len(rows)
        config = {key: entry["value"] for key, entry in json.loads(run["config"]).items() if key != "_wandb"}
        summary = json.loads(run["summaryMetrics"])
        return {
            "rows": [(row["_step"], row["m"]) for row in rows],
            "state": run["state"],
            "config": config,
            "summary": summary["m"],
        }

    return shown


def test_a_fork_begins_with_the_rows_of_the_run_it_comes_from(wandb: Wandb, shown):
    def run(value: int, rows: int, **how: object) -> str:
        return wandb.python(RUN, json.dumps(how), str(value), str(rows))

    run(0, 6, id="trunk", config={"lr": 1})
    trunk = shown("trunk")
    run(100, 2, id="branch", fork_from="trunk?_step=3", config={"lr": 2})
    grown = {"rows": [(0, 0), (1, 1), (2, 2), (3, 3), (4, 100), (5, 101)], "state": "finished", "config": {"lr": 2}}
    assert shown("branch") == {**grown, "summary": 101}
    run(200, 1, id="branch", resume="must")
    assert shown("branch")["rows"] == [*grown["rows"], (6, 200)]
    run(300, 1, id="twig", fork_from="branch?_step=4")
    assert shown("twig")["rows"] == [*grown["rows"][:5], (5, 300)]
    assert shown("trunk") == trunk
    refused = run(0, 1, id="orphan", fork_from="nosuch?_step=1")
    assert "'nosuch', from which orphan is to be forked, not found" in refused


def test_a_fork_made_offline_is_synced_once_however_often(wandb: Wandb, shown):
    wandb.python(RUN, '{"id": "root"}', "0", "4")
    made = wandb.run("python", "-c", RUN, '{"id": "late", "fork_from": "root?_step=1"}', "9", "2", WANDB_MODE="offline")
    assert made.returncode == 0, made.stdout
    (folder,) = wandb.folder.glob("wandb/offline-run-*-late")
    for _ in range(2):
        synced = wandb.run("wandb", "sync", str(folder))
        assert synced.returncode == 0, synced.stdout
        (folder / f"{folder.name.removeprefix('offline-')}.wandb.synced").unlink(missing_ok=True)
        assert shown("late")["rows"] == [(0, 0), (1, 1), (2, 9), (3, 10)]


def test_a_rewound_run_goes_on_from_the_step(wandb: Wandb, protocol: Protocol, shown):
    wandb.python(RUN, '{"id": "back", "config": {"lr": 1}}', "0", "6")
    assert wandb.python(RUN, '{"resume_from": "back?_step=2"}', "50", "2") == "back"
    expected = {"rows": [(0, 0), (1, 1), (2, 2), (3, 50), (4, 51)], "state": "finished", "config": {"lr": 1}}
    assert shown("back") == {**expected, "summary": 51}
    protocol.project = "branches"
    rewind = """
    mutation RewindRun($run: String!, $metric: String!, $value: Float!) {
      rewindRun(input: {runName: $run, entityName: "local", projectName: "branches", metricName: $metric,
                        metricValue: $value}) { rewoundRun { name historyLineCount } }
    }
    """
    # A step between two that were logged, and the summary is that of the last one that is left.
    assert protocol.data(rewind, run="back", metric="_step", value=1.5)["rewindRun"]["rewoundRun"] == {
        "name": "back",
        "historyLineCount": 2,
    }
    assert shown("back")["summary"] == 1
    assert protocol.post(rewind, run="back", metric="loss", value=1).json()["errors"][0]["message"] == (
        "a run can be rewound to a _step, not to a 'loss'"
    )
    assert "'nosuch' not found" in protocol.post(rewind, run="nosuch", metric="_step", value=1).text
    assert "metricValue must be a number" in protocol.post(rewind, run="back", metric="_step", value="x").text
