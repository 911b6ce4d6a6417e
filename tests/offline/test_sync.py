"""`wandb-submit sync`: from one server of ours, or its data folder alone, to another."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from offline.clients import Protocol, Wandb
from offline.conftest import Serve
from offline.proxy import Proxy, before
from support import Shell, wait_until

from wandb_submit.errors import RefusedError
from wandb_submit.server.control.lifecycle import ServerInfo
from wandb_submit.server.export import Source
from wandb_submit.sync.connection import Connection
from wandb_submit.sync.journal import look_at_journal
from wandb_submit.sync.place import Place
from wandb_submit.sync.progress import Progress
from wandb_submit.sync.project import Project
from wandb_submit.sync.run_upload import RunUpload
from wandb_submit.wandb_api.credentials import Login

TRAIN = """
import json, os, sys, wandb
sweep = wandb.sweep(
    {"name": "two words", "description": "with a\\nword", "method": "random", "program": "t.py", "run_cap": 9,
     "metric": {"name": "loss", "goal": "minimize"}, "parameters": {"lr": {"min": 0.1, "max": 0.9}}},
    entity="local", project="first")
for number, (name, exit_code) in enumerate([("good", 0), ("bad", 3), ("stopped", 255), ("broken", 254)]):
    with open("input.txt", "w") as file:
        file.write(name * 1000)
    run = wandb.init(
        project="first", id=name, name=f"the {name} one", group="g", job_type="j", tags=["a", name], notes="n\\nm",
        config={"lr": 0.1 * number, "deep": {"er": [1, None]}, "what": "007"},
        settings=wandb.Settings(sweep_id=sweep, x_stats_sampling_interval=0.1, console="wrap", x_disable_stats=False))
    for step in range(30):
        print("step", step, "\\u00e9\\x1b[31m")
        run.log({"loss": 1 / (step + 1 + number), "nested": {"x": step}}, step=2 * step)
    run.log({"page": wandb.Html("<b>hello</b>"), "nan": float("nan"),
             "table": wandb.Table(columns=["a", "b"], data=[[1, name]])})
    run.save("input.txt")
    run.summary["best"] = {"at": 3}
    run.finish(exit_code=exit_code)
print("RESULT " + json.dumps(sweep))
"""
# All that wandb.Api() tells of a sweep, but for times, addresses and what the servers give themselves.
READ = """
import json, sys, wandb
api = wandb.Api()
sweep = api.sweep(sys.argv[1])
runs = {}
for run in api.runs("/".join(sys.argv[1].split("/")[:2]), filters={"sweep": sweep.id}, lazy=False):
    runs[run.id] = {
        "name": run.name, "state": run.state, "config": run.config, "summary": run.summary._json_dict,
        "tags": sorted(run.tags), "notes": run.notes, "group": run.group, "job_type": run.job_type,
        "commit": run.commit, "history": list(run.scan_history()), "last": run.lastHistoryStep,
        "system": run.history(stream="events", samples=5000, pandas=False), "metrics": run.system_metrics,
        "files": {file.name: (file.md5, file.size) for file in run.files()},
    }
best = sweep.best_run()
print("RESULT " + json.dumps({"config": sweep.config, "name": sweep.name, "state": sweep.state,
      "expected": sweep.expected_run_count, "best": best and best.id, "runs": runs}))
"""
SWEEPS = """
query Sweeps { project(entityName: "local", name: "tests") { sweeps { edges { node { name description } } } } }
"""
FILES = """
mutation CreateRunFiles($entity: String!, $project: String!, $run: String!, $files: [String!]!) {
  createRunFiles(input: {entityName: $entity, projectName: $project, runName: $run, files: $files}) {
    uploadHeaders files { name uploadUrl }
  }
}
"""


@dataclass(frozen=True)
class Person:
    """Somebody who is logged in at the target, and has the source's data folder."""

    shell: Shell
    source: ServerInfo
    target: ServerInfo

    def at(self, url: str) -> dict[str, str]:
        return {"WANDB_BASE_URL": url, "WANDB_API_KEY": self.target.api_key}

    def start(self, sweep: str, url: str, *options: str, **env: str) -> subprocess.Popen[str]:
        return self.shell.start(*self._arguments(sweep, options), **{**self.at(url), **env})

    def try_sync(self, sweep: str, url: str, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self.shell.run(*self._arguments(sweep, options), **{**self.at(url), **env})

    def sync(self, sweep: str, url: str, *options: str):
        done = self.try_sync(sweep, url, *options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def measured(self) -> Person:
        """The same, whose programs say at their end how much memory they had at most, in kB.

        From a small process of its own: a program counts the memory of the one that forked it as its own.
        """
        code = (
            "import resource, subprocess, sys; status = subprocess.call(sys.argv[1:]); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(status)"
        )
        return replace(self, shell=replace(self.shell, prefix=(sys.executable, "-c", code)))

    def _arguments(self, sweep: str, options: tuple[str, ...]) -> list[str]:
        return ["sync", sweep, "--data", str(self.source.data_dir), "--json", *options]


@pytest.fixture(scope="module")
def person(serve: Serve, clean_env: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Person:
    folder = tmp_path_factory.mktemp("onward")
    return Person(Shell(folder=folder, env=clean_env), serve(folder / "here"), serve(folder / "there"))


@pytest.fixture
def proxy(person: Person) -> Iterator[Proxy]:
    with before(person.target) as proxy:
        yield proxy


@pytest.fixture
def here(person: Person) -> Iterator[Protocol]:
    with Protocol(person.source) as client:
        yield client


@pytest.fixture
def there(person: Person) -> Iterator[Protocol]:
    with Protocol(person.target) as client:
        yield client


def upload(client: Protocol, run: str, **files: bytes) -> None:
    variables = {"entity": client.entity, "project": client.project, "run": run, "files": list(files)}
    answer = client.data(FILES, **variables)["createRunFiles"]
    headers = dict(header.split(":", 1) for header in answer["uploadHeaders"])
    for file in answer["files"]:
        assert client.http.put(file["uploadUrl"], content=files[file["name"]], headers=headers).status_code == 200


def make_sweep(client: Protocol, prefix: str, runs: int, rows: int = 5) -> str:
    sweep = client.create_sweep(method="random", parameters={"x": {"min": 0.0, "max": 1.0}})
    for number in range(runs):
        run = client.start_run(f"{prefix}-{number}", sweep=sweep, config=json.dumps({"x": {"value": number}}))
        name = run["bucket"]["name"]
        client.log(name, [{"_step": step, "loss": step / (number + 1)} for step in range(rows)])
        client.stream(name, files={"output.log": {"offset": 0, "content": [f"line {n}\n" for n in range(rows)]}})
        upload(client, name, one=f"{name} 1".encode() * 9000, two=b"")
        client.finish(name, number % 3, summary={"loss": number})
    return sweep


def content(info: ServerInfo, sweep: str):
    """All that a server's tables hold of a sweep's runs, but for times and its own numbers."""
    with sqlite3.connect(info.data_dir / "server.sqlite3") as tables:
        runs = tables.execute(
            "SELECT runs.id, name, runs.state, runs.display_name, tags, runs.config, summary, exit_code FROM runs"
            " JOIN sweeps ON sweeps.number = runs.sweep WHERE sweeps.id = ? ORDER BY name",
            (sweep,),
        ).fetchall()
        found = {}
        for number, name, *columns in runs:
            history = tables.execute(
                "SELECT stream, number, content FROM history WHERE run = ? ORDER BY 1, 2", (number,)
            )
            console = tables.execute("SELECT number, line FROM console WHERE run = ? ORDER BY 1", (number,))
            files = tables.execute("SELECT name, size, md5 FROM files WHERE run = ? ORDER BY 1", (number,))
            found[name] = [columns, history.fetchall(), console.fetchall(), files.fetchall()]
    tables.close()
    return found


def test_a_forked_run_arrives_with_all_of_its_rows(person: Person, here: Protocol):
    sweep = make_sweep(here, "forked", 1, rows=4)
    own = {"_wandb": {"value": {"branch_point": {"run_id": "elsewhere", "step": 1}, "t": {}}}}
    here.start_run("elsewhere")
    here.log("elsewhere", [{"_step": step, "x": step} for step in range(4)])
    assert here.start_run("fork", sweep=sweep, config=json.dumps(own))["bucket"]["historyLineCount"] == 2
    here.log("fork", [{"_step": 2, "x": 9}], offset=2)
    here.finish("fork")
    # Where it comes from belongs to no sweep and stays here.
    result = person.sync(sweep, person.target.url)
    assert result["runs"] == {"sent": 2, "unchanged": 0, "unfinished": 0, "failed": 0}
    arrived = content(person.target, result["sweep"]["id"])["fork"]
    assert [json.loads(row[2])["x"] for row in arrived[1]] == [0, 1, 9]


def test_a_sweep_of_the_real_client_arrives_whole_and_once(
    person: Person, proxy: Proxy, clean_env: Mapping[str, str], tmp_path: Path
):
    clients = {name: tmp_path / name for name in ("here", "there")}
    for folder in clients.values():
        folder.mkdir()
    client = Wandb.at(person.source, clients["here"], clean_env)
    sweep = client.python(TRAIN)
    with Protocol(person.source, project="first") as live:
        live.start_run("live", sweep=sweep, config=json.dumps({"lr": {"value": 0.5}}))
        live.log("live", [{"_step": 0, "loss": 0.001}])

        journals = person.source.data_dir / "sync"
        before = sorted(journals.rglob("*"))
        planned = person.sync(sweep, proxy.url, "--dry-run")
        assert (planned["runs"], planned["unfinished"]) == ({"send": 4, "unchanged": 0, "unfinished": 1}, ["live"])
        assert planned["artifacts_left"] >= 4
        assert set(proxy.seen) == {"Viewer"}
        assert sorted(journals.rglob("*")) == before

        first = person.sync(f"local/first/{sweep}", proxy.url)
        assert first["runs"] == {"sent": 4, "unchanged": 0, "unfinished": 1, "failed": 0}
        assert (first["files"], first["sweep"]["state"]) == (planned["files"], "PAUSED")
        assert first["files"] >= 16
        copy = first["sweep"]["id"]
        assert first["sweep"]["url"] == f"{proxy.url}/local/first/sweeps/{copy}"
        assert Counter(proxy.seen)["PUT"] == first["files"]

        proxy.seen.clear()
        again = person.sync(sweep, proxy.url)
        assert (again["runs"]["unchanged"], again["files"], again["lines"], again["bytes"]) == (4, 0, 0, 0)
        assert (again["sweep"]["id"], proxy.seen) == (copy, ["Viewer", "GetSweep"])

        live.log("live", [{"_step": 1, "loss": 0.0005}], offset=1)
        live.finish("live", 0, summary={"loss": 0.0005})
        live.set_state(sweep, "FINISHED")
    proxy.seen.clear()
    last = person.sync(sweep, proxy.url)
    assert (last["runs"]["sent"], last["runs"]["unchanged"], last["sweep"]["state"]) == (1, 4, "FINISHED")
    assert Counter(proxy.seen)["UpsertBucket"] == 1

    reader = Wandb.at(person.target, clients["there"], clean_env)
    before, after = client.python(READ, f"local/first/{sweep}"), reader.python(READ, f"local/first/{copy}")
    assert after == before
    assert {name: run["state"] for name, run in after["runs"].items()} == {
        "good": "finished",
        "bad": "failed",
        "stopped": "killed",
        "broken": "crashed",
        "live": "finished",
    }
    assert after["best"] == "live"
    assert len(after["runs"]["good"]["history"]) == 30
    assert after["runs"]["good"]["system"]
    media = {name.split("/")[1] for name in after["runs"]["good"]["files"] if name.startswith("media/")}
    assert media == {"html", "table"}
    assert content(person.target, copy) == content(person.source, sweep)


def test_killed_at_any_moment_against_a_bad_server_it_arrives_whole_and_once(
    person: Person, proxy: Proxy, here: Protocol, there: Protocol
):
    sweep = make_sweep(here, "kill", 12, rows=300)
    here.set_state(sweep, "CANCELED")
    dice = random.Random(3)

    def fault(number: int, word: str):
        if word == "UpsertSweep" and proxy.seen.count(word) == 1:
            return "cut"
        roll = dice.random()
        if roll < 0.06:
            return 429, {"Retry-After": "0"}
        if roll < 0.12:
            return 500, {}
        # Done, but the answer is lost.
        return "cut" if roll < 0.2 else None

    proxy.fault = fault
    for _ in range(6):
        process = person.start(sweep, proxy.url, "--jobs", "2")
        end = len(proxy.seen) + dice.randrange(2, 30)
        wait_until(
            lambda process=process, end=end: len(proxy.seen) >= end or process.poll() is not None,
            what="the sync is at work",
        )
        process.send_signal(signal.SIGKILL)
        process.communicate()
    result = person.sync(sweep, proxy.url)
    assert result["sweep"]["state"] == "CANCELED"
    assert content(person.target, result["sweep"]["id"]) == content(person.source, sweep)
    nodes = [edge["node"] for edge in there.data(SWEEPS)["project"]["sweeps"]["edges"]]
    assert [node["name"] for node in nodes if sweep in (node["description"] or "")] == [result["sweep"]["id"]]
    proxy.fault = lambda *_: None
    proxy.seen.clear()
    assert person.sync(sweep, proxy.url)["runs"]["unchanged"] == 12
    assert proxy.seen == ["Viewer", "GetSweep"]


def test_without_its_record_it_finds_what_is_there_and_sends_no_file_again(
    person: Person, proxy: Proxy, here: Protocol
):
    sweep = make_sweep(here, "lost", 2)
    first = person.sync(sweep, proxy.url)
    shutil.rmtree(person.source.data_dir / "sync")
    second = person.sync(sweep, proxy.url)
    assert second["sweep"] == {**first["sweep"], "created": False}
    assert (first["files"], second["files"]) == (4, 0)
    assert content(person.target, first["sweep"]["id"]) == content(person.source, sweep)
    (record,) = (person.source.data_dir / "sync").glob(f"{sweep}-*.sqlite3")
    with sqlite3.connect(record) as tables:
        tables.execute("UPDATE sweep SET value = 'deleted' WHERE name = 'id'")
    tables.close()
    done = person.try_sync(sweep, proxy.url)
    assert (done.returncode, "is not there any more" in done.stderr, str(record) in done.stderr) == (6, True, True)


def test_a_run_that_changed_since_is_sent_as_it_is_now(person: Person, proxy: Proxy, here: Protocol):
    sweep = make_sweep(here, "more", 3)
    first = person.sync(sweep, proxy.url)
    here.start_run("more-0")
    here.log("more-0", [{"_step": 5, "loss": 9}], offset=5)
    upload(here, "more-0", three=b"3")
    here.finish("more-0", 0)
    here.start_run("more-1")
    here.log("more-1", [{"_step": 0, "from": "its beginning"}])
    here.finish("more-1", 1)
    second = person.sync(sweep, proxy.url)
    assert (second["runs"]["sent"], second["files"], second["lines"]) == (2, 1, 2)
    assert content(person.target, first["sweep"]["id"]) == content(person.source, sweep)


def test_a_run_of_that_id_that_is_not_ours_is_left_alone(person: Person, proxy: Proxy, here: Protocol, there: Protocol):
    sweep = make_sweep(here, "theirs", 3)
    there.start_run("theirs-1", config=json.dumps({"x": {"value": "theirs"}}))
    done = person.try_sync(sweep, proxy.url)
    result = json.loads(done.stdout)
    assert (done.returncode, result["runs"]["sent"], result["sweep"]["state"]) == (1, 2, "PAUSED")
    assert [failure["run"] for failure in result["failures"]] == ["theirs-1"]
    assert "another run of that id is there already, in no sweep" in result["failures"][0]["reason"]
    elsewhere = person.sync(sweep, proxy.url, "--project", "elsewhere")
    assert elsewhere["runs"]["sent"] == 3
    assert content(person.target, elsewhere["sweep"]["id"]) == content(person.source, sweep)


def test_the_data_folder_is_enough(person: Person, proxy: Proxy, serve: Serve, tmp_path: Path, monkeypatch):
    server = serve(tmp_path / "data")
    with Protocol(server) as client:
        sweep = make_sweep(client, "alone", 2)
        client.start_run("alone-silent", sweep=sweep)
    os.kill(server.pid, signal.SIGKILL)
    copy = tmp_path / "copy"
    shutil.copytree(server.data_dir, copy)
    with sqlite3.connect(copy / "server.sqlite3") as tables:
        tables.execute("UPDATE runs SET heartbeat_at = heartbeat_at - 1000 WHERE name = 'alone-silent'")
    tables.close()
    done = person.shell.json("sync", sweep, "--data", str(copy), **person.at(proxy.url))
    assert done["runs"] == {"sent": 3, "unchanged": 0, "unfinished": 0, "failed": 0}
    states = {name: run[0][0] for name, run in content(person.target, done["sweep"]["id"]).items()}
    assert states == {"alone-0": "finished", "alone-1": "failed", "alone-silent": "crashed"}
    # On a medium that cannot be written SQLite has no place for what it needs beside the database.
    for end in ("-shm", "-wal"):
        (copy / f"server.sqlite3{end}").unlink()
    monkeypatch.setattr(os, "access", lambda *_: False)
    source = Source(copy)
    assert len(source.runs_of(source.sweep(sweep))) == 3
    assert not (copy / "server.sqlite3-shm").exists()
    for version, words in ((1, "by an older wandb-submit: bring it up to date"), (99, "by a newer wandb-submit")):
        with sqlite3.connect(copy / "server.sqlite3") as tables:
            tables.execute(f"PRAGMA user_version = {version}")
        tables.close()
        with pytest.raises(RefusedError, match=words):
            Source(copy)


def test_a_large_file_is_never_in_memory(person: Person, here: Protocol):
    sweep = make_sweep(here, "large", 1)
    size = 256 * 1024 * 1024
    here.start_run("large-1", sweep=sweep)
    address = here.data(FILES, entity="local", project="tests", run="large-1", files=["big"])["createRunFiles"]
    piece = random.Random(0).randbytes(1024 * 1024)
    with here.http.stream(
        "PUT", address["files"][0]["uploadUrl"], content=(piece for _ in range(size // len(piece)))
    ) as answer:
        assert answer.status_code == 200
    here.finish("large-1", 0)
    done = person.measured().try_sync(sweep, person.target.url)
    assert done.returncode == 0, done.stderr
    result, peak_kb = done.stdout.splitlines()
    assert json.loads(result)["bytes"] > size
    assert 10 * 1024 < int(peak_kb) < 160 * 1024
    assert content(person.target, json.loads(result)["sweep"]["id"]) == content(person.source, sweep)


def test_a_run_is_said_to_be_alive_while_its_files_are_sent(
    person: Person, here: Protocol, there: Protocol, proxy: Proxy
):
    sweep = make_sweep(here, "slow", 1)
    source = Source(person.source.data_dir)
    (number,) = source.runs_of(source.sweep(sweep))
    release = threading.Event()

    def fault(_number: int, word: str):
        if word == "file_stream" and proxy.seen.count(word) == 3:
            release.set()
        if word == "PUT":
            assert release.wait(60)

    proxy.fault = fault
    place = Place(base_url=proxy.url, entity="local", project="tests")
    connection = Connection(Login(proxy.url, person.target.api_key), patience_s=60, stop=threading.Event())
    project = Project(connection, place)
    with ThreadPoolExecutor(2) as uploads, look_at_journal(person.source.data_dir, sweep, place) as journal:
        copy = project.create_sweep(source.sweep(sweep))
        parts = {"source": source, "journal": journal, "project": project, "sweep": copy, "progress": Progress()}
        RunUpload(**parts, uploads=uploads, heartbeat_s=0.02).send(number)
    connection.close()
    assert proxy.seen.count("file_stream") >= 4
    assert content(person.target, copy.name) == content(person.source, sweep)


def test_what_keeps_it_from_beginning(person: Person, here: Protocol, proxy: Proxy):
    sweep = make_sweep(here, "refused", 1)
    home = {"WANDB_API_KEY": person.source.api_key, "WANDB_BASE_URL": person.source.url}
    wrong = {"WANDB_API_KEY": "0" * 40}
    proxy.fault = lambda _number, word: (503, {}) if word == "UpsertSweep" else None
    cases = (
        (person.try_sync("nosuch", proxy.url), 3, f"no sweep nosuch in {person.source.data_dir}; the newest there: "),
        (person.try_sync(f"other/tests/{sweep}", proxy.url), 3, "no sweep other/tests/"),
        (person.try_sync(sweep, proxy.url, **home), 2, "pointed at the very server"),
        (person.try_sync(sweep, proxy.url, **wrong), 4, "refuses our API key"),
        (person.try_sync(sweep, "http://127.0.0.1:9", "--patience", "0.5"), 5, "has not answered properly"),
        (person.try_sync(sweep, proxy.url, "--patience", "0.5"), 5, "503 as told"),
        (person.shell.run("sync", sweep, **person.at(proxy.url)), 3, "is not the data folder of an offline server"),
        (person.shell.run("sync", sweep, "--data", str(person.source.data_dir)), 4, "not logged in"),
    )
    for done, status, words in cases:
        assert (done.returncode, words in done.stderr) == (status, True), done.stderr
        assert person.target.api_key not in done.stderr


def test_two_at_once_do_not_meet(person: Person, here: Protocol, proxy: Proxy):
    sweep = make_sweep(here, "two", 1)
    proxy.fault = lambda _number, word: (503, {}) if word == "UpsertBucket" else None
    first = person.start(sweep, proxy.url)
    wait_until(lambda: "UpsertBucket" in proxy.seen, what="the first is at work")
    second = person.try_sync(sweep, proxy.url)
    assert (second.returncode, f"another sync of {sweep}" in second.stderr) == (6, True)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert (first.returncode, "the same command goes on from here" in said) == (130, True)
    proxy.fault = lambda *_: None
    assert person.sync(sweep, proxy.url)["sweep"]["created"] is False
