"""What the unmodified client's public API reads and changes of runs, and its command line of offline runs."""

from __future__ import annotations

import json
import shutil
import signal

import pytest
from offline.clients import Protocol, Wandb
from support import wait_until

# Names, texts and numbers that do not survive every way of storing them.
ODD = 'a "quoted"\\b.é'
LONG = "k" * 300 + ".x/y"
WRITE = """
import json, math, sys, wandb
ODD, LONG = json.loads(sys.argv[1])
with wandb.init(
    project="api", id="odd", name="Näme", notes="a note\\nof two lines", group="g", job_type="jt", tags=["one", "zwei"],
    config={"lr": 0.5, "deep": {"a": [1, 2], "n": None}, "int": 1, "big": 2**60, "on": True, ODD: "ü\\U0001f600"},
) as run:
    for step in range(12):
        run.log({
            "loss": 1 / (step + 1), "deep": {"acc": step}, "nan": math.nan, "inf": math.inf, "ninf": -math.inf,
            "huge": 1e308 * 10, "none": None, ODD: step, LONG: step, "val/acc": step, "text": 'é\\n"q"\\\\',
        })
    run.summary["nested"] = {"x": {"y": 1}}
    print("printed \\U0001f600")
    print("to stderr", file=sys.stderr)
"""
READ = """
import json, sys, wandb
ODD, LONG = json.loads(sys.argv[1])
api = wandb.Api()
run = api.run("api/odd")
keys = ["loss", "deep.acc", ODD, LONG, "val/acc"]
lines = run.console_logs() if hasattr(run, "console_logs") else None
rows = [row for row in run.scan_history(page_size=5)]
print("RESULT", json.dumps({
    "about": [run.name, run.notes, run.group, run.job_type, run.tags, run.state, run.entity, run.read_only],
    "config": run.config,
    "summary": {key: run.summary_metrics[key]
                for key in ("nan", "inf", "ninf", "huge", "text", ODD, LONG, "nested", "deep")},
    "row": {key: rows[-1][key] for key in ("nan", "inf", "ninf", "huge", "none", "text", ODD, LONG)},
    "steps": [row["_step"] for row in rows],
    "series": run.history(keys=keys, samples=2, pandas=False),
    "by_runtime": len(run.history(keys=["loss"], x_axis="_runtime", pandas=False)),
    "sampled": [row["_step"] for row in run.history(samples=3, pandas=False)],
    "scanned": [row[ODD] for row in run.scan_history(keys=[ODD], page_size=5)],
    "between": [row["_step"] for row in run.scan_history(min_step=3, max_step=9, page_size=4)],
    "some": [row["loss"] for row in run.scan_history(keys=["loss"], min_step=3, max_step=5, page_size=4)],
    "beta": len(list(run.beta_scan_history(page_size=5))),
    "last": run.lastHistoryStep,
    "system": isinstance(run.history(stream="system", pandas=False), list),
    "python": bool(run.metadata["python"]),
    "nothing": [run.file("nosuch.txt").size, len(run.files(pattern="%.nosuch")), len(run.files(names=["nosuch.txt"]))],
    "patterns": [[file.name for file in run.files(pattern=pattern)] for pattern in ("wandb-%.json", "config_yaml")],
    "pages": sorted(file.name for file in run.files(per_page=2)),
    "console": run.file("output.log").download(replace=True).read(),
    "lines": lines and [[line.number, line.level, line.content, line.timestamp is not None] for line in lines],
    "tail": lines and [line.content for line in run.console_logs(last=1)],
    "paged": lines and len(list(run.console_logs(per_page=1))),
    "histories": [len(api.runs("api", {"name": "odd"}).histories(samples=4)),
                  api.runs("api", {"name": "odd"}).histories(samples=2, keys=["val/acc"])],
    "lazy": [[each.config["lr"], each.summary["val/acc"]] for lazy in (True, False)
             for each in api.runs("api", {"name": "odd"}, lazy=lazy)],
}))
"""
CHANGE = """
import json, wandb
api, seen = wandb.Api(), {}

def attempt(name, work):
    try:
        seen[name] = work()
    except Exception as error:
        seen[name] = f"{type(error).__name__}: {error}"

seed = api.create_run(project="api", run_id="changed")
run = api.run("api/changed")
run.tags.append("t")
run.name, run.notes, run.group, run.description = "renamed", "noted", "g2", "described"
run.config["none"] = None
run.summary["score"] = {"a": 1}
run.summary["gone"] = 1
run.update()
del run.summary["gone"]
run.save()
open("up.txt", "w").write("up")
run.upload_file("up.txt")
again = wandb.Api().run("api/changed")
seen["changed"] = [again.tags, again.name, again.notes, again.group, again.description, again.config,
                   again.summary_metrics["score"], "gone" in again.summary_metrics,
                   again.file("up.txt").download(replace=True).read()]
runs = api.runs("api", {"name": "changed"})
seen["full"] = [len(runs), [run.name for run in runs], runs.upgrade_to_full(), runs[0].config]
seen["states"] = [seed.state, run.update_state("failed"), wandb.Api().run("api/changed").state]
attempt("refused", lambda: run.update_state("failed"))
seen["pending"] = [run.update_state("pending"), wandb.Api().run("api/changed").state]
seen["created"] = wandb.apis.public.Run.create(api, project="api", state="pending").state
seen["viewer"] = [api.viewer.username, api.viewer.admin, api.viewer.teams, api.viewer.api_keys, api.default_entity]
seen["users"] = [api.user("local").username, api.user("nobody"), len(api.users("loc"))]
team = api.team("local")
seen["team"] = [team.name, repr(team.members[0]), team.members[0].account_type]
api.create_project("made", "local")
seen["projects"] = sorted({"made", "api"} & {project.name for project in api.projects()})
seen["project"] = [api.project("made").id != api.project("api").id, api.project("api").owner.username]
seen["sweeps"] = len(api.project("made").sweeps())
seen["reports"] = len(api.reports("local/api"))
seen["paths"] = [str(api.from_path(path)) for path in ("local/api/changed", "local/api/runs/changed", "local/api")]
run.delete()
run.delete(delete_artifacts=True)
attempt("deleted", lambda: wandb.Api().run("api/changed"))
attempt("no project", lambda: len(api.runs("local/nosuch")))
attempt("no such project", lambda: api.project("nosuch").id)
attempt("unknown", lambda: api.create_user("a@b.c"))
api.flush()
print("RESULT", json.dumps(seen))
"""


@pytest.fixture
def names() -> str:
    return json.dumps([ODD, LONG])


def test_odd_names_texts_and_numbers_come_back_from_runs(wandb: Wandb, names: str):
    done = wandb.run("python", "-c", WRITE, names)
    assert done.returncode == 0, done.stdout
    read = wandb.python(READ, names)
    steps = list(range(12))
    texts = {"nan": "NaN", "inf": "Infinity", "ninf": "-Infinity", "huge": "Infinity"}
    latest = {**texts, "text": 'é\n"q"\\', ODD: 11, LONG: 11}
    ends = [{"loss": 1 / (step + 1), "deep.acc": step, ODD: step, LONG: step, "val/acc": step} for step in (0, 11)]
    lines = [[0, "", "printed \U0001f600", True], [1, "error", "to stderr", True]]
    console = "printed \U0001f600\nto stderr\n"
    assert read.pop("lines") in (lines, None)
    assert (read.pop("tail"), read.pop("paged")) in ((["to stderr"], 2), (None, None))
    assert read == {
        "about": ["Näme", "a note\nof two lines", "g", "jt", ["one", "zwei"], "finished", "local", False],
        "config": {"lr": 0.5, "deep": {"a": [1, 2], "n": None}, "int": 1, "big": 2**60, "on": True, ODD: "ü\U0001f600"},
        "summary": {**latest, "nested": {"x": {"y": 1}}, "deep": {"acc": 11}},
        "row": {**latest, "none": None},
        "steps": steps,
        "series": [{"_step": step, **end} for step, end in zip((0, 11), ends, strict=True)],
        "by_runtime": 12,
        "sampled": [0, 6, 11],
        "scanned": steps,
        "between": [3, 4, 5, 6, 7, 8],
        "some": [1 / 4, 1 / 5],
        "beta": 12,
        "last": 11,
        "system": True,
        "python": True,
        "nothing": [0, 5, 5],
        "patterns": [["wandb-metadata.json", "wandb-summary.json"], ["config.yaml"]],
        "pages": ["config.yaml", "output.log", "requirements.txt", "wandb-metadata.json", "wandb-summary.json"],
        "console": console,
        "histories": [4, [{"_step": step, "val/acc": step, "run_id": "odd"} for step in (0, 11)]],
        "lazy": [[0.5, 11], [0.5, 11]],
    }


def test_the_public_api_makes_and_changes_runs_and_finds_its_way(wandb: Wandb):
    seen = wandb.python(CHANGE)
    assert "invalid state transition" in seen.pop("refused").lower()
    assert "ould not find run" in seen.pop("deleted")
    assert "ould not find project" in seen.pop("no project")
    assert "not found" in seen.pop("no such project")
    assert "createUser" in seen.pop("unknown")
    assert seen == {
        "changed": [
            ["t"],
            "renamed",
            "noted",
            "g2",
            "described",
            {"none": None},
            {"a": 1},
            False,
            "up",
        ],
        "full": [1, ["renamed"], None, {"none": None}],
        "states": ["running", True, "failed"],
        "pending": [True, "pending"],
        "created": "pending",
        "viewer": ["local", False, ["local"], ["local"], "local"],
        "users": ["local", None, 1],
        "team": ["local", "<Member local (USER)>", "USER"],
        "projects": ["api", "made"],
        "project": [True, "local"],
        "sweeps": 0,
        "reports": 0,
        "paths": ["<Run local/api/changed (pending)>"] * 2 + ["<Project local/api>"],
    }


RESUME = """
import json, sys, wandb
how = json.loads(sys.argv[1])
try:
    with wandb.init(project="resume", **how) as run:
        run.log({"how": 1})
        run.log({"how": 2})
        print("RESULT", json.dumps([run.resumed, run.step, list(run.tags), dict(run.config)]))
except Exception as error:
    print("RESULT", json.dumps(f"{type(error).__name__}: {error}"))
"""


def test_resuming_goes_by_what_is_there(wandb: Wandb, protocol: Protocol):
    def run(**how: object):
        return wandb.python(RESUME, json.dumps(how))

    def steps() -> list[int]:
        protocol.project = "resume"
        text = '{ project(name: "resume", entityName: "local") { run(name: "a") { history tags } } }'
        return [json.loads(row)["_step"] for row in protocol.data(text)["project"]["run"]["history"]]

    assert "UsageError" in run(id="a", resume="must")
    assert run(id="a", resume="never", tags=["old"], config={"c": 1}) == [False, 2, ["old"], {"c": 1}]
    assert "UsageError" in run(id="a", resume="never")
    assert run(id="a", resume="must") == [True, 4, ["old"], {"c": 1}]
    assert run(id="a", resume="allow", tags=["new"], config={"d": 2}) == [True, 6, ["new"], {"c": 1, "d": 2}]
    assert steps() == list(range(6))


OFFLINE = """
import sys, wandb
with wandb.init(project="synced", id=sys.argv[1], name="offline one", tags=["o"], config={"a": 1}, group="g") as run:
    for step in range(50):
        run.log({"x": step})
    print("printed")
"""


def test_an_offline_run_is_synced_whole_and_once(wandb: Wandb, protocol: Protocol):
    for name in ("whole", "cut"):
        made = wandb.run("python", "-c", OFFLINE, name, WANDB_MODE="offline")
        assert made.returncode == 0, made.stdout
    (whole,) = wandb.folder.glob("wandb/offline-run-*-whole")
    (cut,) = wandb.folder.glob("wandb/offline-run-*-cut")
    copy = shutil.copytree(whole, whole.with_name(whole.name.replace("whole", "again") + "x"))
    protocol.project = "synced"
    text = """
    query Q($name: String!) { project(name: "synced", entityName: "local") { run(name: $name) {
      displayName state tags config group historyLineCount summaryMetrics logLineCount files { edges { node { name } } }
    } } }
    """

    def shown(name: str):
        project = protocol.data(text, name=name)["project"]
        return project and project["run"]

    # Killed at some moment of its work, and done again.
    process = wandb.start("wandb", "sync", str(cut))
    wait_until(lambda: shown("cut") or process.poll() is not None, what="the sync has begun")
    process.send_signal(signal.SIGKILL)
    process.wait()
    (cut / f"{cut.name.removeprefix('offline-')}.wandb.synced").unlink(missing_ok=True)
    for folder in (whole, copy, cut):
        done = wandb.run("wandb", "sync", str(folder))
        assert done.returncode == 0, done.stdout
    for name in ("whole", "cut"):
        run = shown(name)
        config, files = json.loads(run.pop("config")), run.pop("files")["edges"]
        assert config["a"]["value"] == 1
        assert json.loads(run.pop("summaryMetrics"))["x"] == 49
        assert {"config.yaml", "output.log", "wandb-summary.json"} <= {edge["node"]["name"] for edge in files}
        assert run.pop("logLineCount") >= 1
        assert run == {
            "displayName": "offline one",
            "state": "finished",
            "tags": ["o"],
            "group": "g",
            "historyLineCount": 50,
        }


def test_the_command_line_fetches_a_runs_files_and_config(wandb: Wandb, protocol: Protocol):
    protocol.project = "fetched"
    protocol.start_run("files", config=json.dumps({"lr": {"value": 0.5}}))
    for name, text in (("note.txt", b"a note"), ("deep/note.txt", b"a note"), ("wandb-metadata.json", b"{}")):
        assert protocol.http.put(f"/storage/local/fetched/files/{name}", content=text).status_code == 200
    protocol.finish("files")
    pulled = wandb.run("wandb", "pull", "-p", "fetched", "-e", "local", "files")
    assert pulled.returncode == 0, pulled.stdout
    assert (wandb.folder / "deep" / "note.txt").read_text() == "a note"
    restored = wandb.run("wandb", "restore", "--no-git", "local/fetched/files")
    assert restored.returncode == 0, restored.stdout
    assert "0.5" in (wandb.folder / "wandb" / "config.yaml").read_text()
    for words in (("login", "--verify"), ("status",)):
        done = wandb.run("wandb", *words)
        assert done.returncode == 0, done.stdout
    refused = wandb.run("wandb", "launch-agent", "-q", "nosuch", "-e", "local")
    assert refused.returncode != 0
    assert "Error" in refused.stdout
    assert "Traceback" not in refused.stdout
