"""The unmodified wandb client: sweeps by Python and command line, runs, and the public API's reading of them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import time

import yaml
from offline.clients import Protocol, Wandb
from support import ROOT

from wandb_submit.server.control.lifecycle import ServerInfo

SWEEP = {
    "program": "train.py",
    "method": "grid",
    "metric": {"name": "loss", "goal": "minimize"},
    "parameters": {"lr": {"values": [0.1, 0.01]}},
}
RUN = """
import json, sys, wandb
with wandb.init(project="client", id=sys.argv[1], config={"lr": 0.5, "deep": {"a": [1, 2]}}, tags=["one"]) as run:
    for step in range(20):
        run.log({"loss": 1 / (step + 1), "deep": {"acc": step}})
    open("note.txt", "w").write("a note")
    run.save("note.txt", policy="now")
    print("some output")
"""


def test_the_client_is_of_the_version_that_is_meant(wandb: Wandb):
    oldest = re.search(r'"wandb>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    used = wandb.python("import json, wandb; print('RESULT', json.dumps(wandb.__version__))")
    if os.environ.get("WANDB_SUBMIT_CLIENT_PYTHON"):
        assert used in (oldest, f"{oldest}.0")
    else:
        assert used == importlib.metadata.version("wandb")


def test_a_sweep_made_by_python_is_read_back(wandb: Wandb):
    made = wandb.python(
        """
import json, sys, wandb
sweep = wandb.sweep(json.loads(sys.argv[1]), project="client")
read = wandb.Api().sweep(f"local/client/{sweep}")
print("RESULT", json.dumps([sweep, read.id, read.state, read.config, read.expected_run_count, len(read.runs),
                            read.name, str(read.best_run())]))
""",
        json.dumps(SWEEP),
    )
    sweep, read, state, config, expected, runs, name, best = made
    assert sweep == read == name
    assert (state, config, expected, runs, best) == ("PENDING", SWEEP, 2, 0, "None")


def test_the_command_line_makes_and_steers_a_sweep(wandb: Wandb, protocol: Protocol):
    (wandb.folder / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    made = wandb.run("wandb", "sweep", "--project", "tests", "--name", "mine", "sweep.yaml")
    sweep = re.search(r"wandb agent local/tests/(\w+)", made.stdout)[1]
    # The client pauses a sweep only once it has had an agent.
    protocol.agent(sweep)
    for flag, state in (("--pause", "PAUSED"), ("--resume", "RUNNING"), ("--stop", "FINISHED")):
        done = wandb.run("wandb", "sweep", flag, f"local/tests/{sweep}")
        assert done.returncode == 0, done.stdout
        assert protocol.sweep(sweep)["state"] == state
    again = wandb.run("wandb", "sweep", "--cancel", f"local/tests/{sweep}")
    assert again.returncode != 0
    assert "already finished" in again.stdout


def test_a_sweep_that_cannot_be_searched_is_refused(wandb: Wandb):
    (wandb.folder / "sweep.yaml").write_text("program: t.py\nmethod: grid\nparameters: {x: {min: 0.0, max: 1.0}}\n")
    made = wandb.run("wandb", "sweep", "--project", "tests", "sweep.yaml")
    assert made.returncode == 1
    assert "Invalid sweep config" in made.stdout
    assert "grid search" in made.stdout.lower()


def test_a_run_is_read_back_with_all_it_logged(wandb: Wandb):
    begun = time.monotonic()
    done = wandb.run("python", "-c", RUN, "whole")
    print(f"a trivial run takes {time.monotonic() - begun:.2f} s")
    assert done.returncode == 0, done.stdout
    read = wandb.python(
        """
import json, wandb
run = wandb.Api().run("local/client/whole")
history = run.history(pandas=False)
print("RESULT", json.dumps({
    "state": run.state, "config": run.config, "loss": run.summary["loss"], "tags": run.tags,
    "history": [row["loss"] for row in history],
    "scanned": [row["deep.acc"] for row in run.scan_history(keys=["deep.acc"], page_size=7)],
    "scan": len(list(run.scan_history(page_size=7))),
    "series": [row["loss"] for row in run.history(keys=["loss"], pandas=False)],
    "last": run.lastHistoryStep, "note": run.file("note.txt").download(replace=True).read(),
    "files": sorted(file.name for file in run.files()), "program": run.metadata is not None,
}))
"""
    )
    losses = [1 / (step + 1) for step in range(20)]
    assert read["files"] == sorted(
        ["config.yaml", "note.txt", "output.log", "requirements.txt", "wandb-metadata.json", "wandb-summary.json"]
    )
    del read["files"]
    assert read == {
        "state": "finished",
        "config": {"lr": 0.5, "deep": {"a": [1, 2]}},
        "loss": 0.05,
        "tags": ["one"],
        "history": losses,
        "scanned": list(range(20)),
        "scan": 20,
        "series": losses,
        "last": 19,
        "note": "a note",
        "program": True,
    }


def test_a_run_that_resumes_goes_on_where_it_was(wandb: Wandb):
    rows = wandb.python(
        """
import json, wandb
for turn in range(2):
    with wandb.init(project="client", id="resumed", resume="allow") as run:
        for _ in range(3):
            run.log({"turn": turn})
run = wandb.Api().run("local/client/resumed")
print("RESULT", json.dumps([[row["_step"], row["turn"]] for row in run.scan_history()]))
"""
    )
    assert rows == [[0, 0], [1, 0], [2, 0], [3, 1], [4, 1], [5, 1]]


def test_the_public_api_changes_and_deletes_a_run(wandb: Wandb, protocol: Protocol):
    protocol.project = "client"
    protocol.start_run("changed")
    protocol.finish("changed", summary={"loss": 1})
    seen = wandb.python(
        """
import json, wandb
api = wandb.Api()
run = api.run("local/client/changed")
run.config["added"] = 1
run.summary["score"] = 2
run.tags.append("two")
run.update()
again = wandb.Api().run("local/client/changed")
seen = [again.config, again.summary["score"], again.tags, api.default_entity, [p.name for p in api.projects("local")]]
again.delete()
try:
    wandb.Api().run("local/client/changed")
except (wandb.errors.CommError, ValueError) as error:
    seen.append(str(error))
print("RESULT", json.dumps(seen))
"""
    )
    config, score, tags, entity, projects, gone = seen
    assert (config, score, tags, entity) == ({"added": 1}, 2, ["two"], "local")
    assert "client" in projects
    assert "Could not find run" in gone


def test_what_is_not_there(wandb: Wandb):
    said = wandb.python(
        """
import json, wandb
said = []
for ask in (lambda api: api.sweep("local/client/nosuch"), lambda api: api.run("local/client/nosuch"),
            lambda api: len(api.runs("local/nosuch"))):
    try:
        said.append(repr(ask(wandb.Api())))
    except Exception as error:
        said.append(f"{type(error).__name__}: {error}")
print("RESULT", json.dumps(said))
"""
    )
    assert all("ould not find" in text for text in said), said
    agent = wandb.run("wandb", "agent", "local/client/nosuch")
    assert agent.returncode == 1
    assert "nosuch" in agent.stdout


def test_a_wrong_key_is_refused(server: ServerInfo, wandb: Wandb):
    key = "f" * 40
    done = wandb.run("python", "-c", "import wandb; wandb.Api().default_entity", WANDB_API_KEY=key)
    assert done.returncode != 0
    assert "AuthenticationError" in done.stdout
    assert "the API key is missing or wrong" in done.stdout
    assert key not in (server.data_dir / "server.log").read_text()
