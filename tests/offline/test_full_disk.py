"""A disk that is full costs nothing that was acknowledged, and the server goes on by itself when there is room."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from offline.clients import Protocol
from offline.conftest import Serve
from support import Shell, small_disk, wait_until


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "6m") as folder:
        yield folder


def test_a_full_disk_is_told_and_survived(serve: Serve, disk: Path) -> None:
    info = serve(disk / "data")
    with Protocol(info) as client:
        client.start_run("filler")
        client.start_run("large")
        lines = [json.dumps({"_step": step, "text": "x" * 2000}) for step in range(50)]
        stored = 0
        for _ in range(200):
            answer = client.stream("filler", files={"wandb-history.jsonl": {"offset": stored, "content": lines}})
            if answer.status_code != 200:
                break
            stored += len(lines)
        assert answer.status_code == 507, answer.text
        assert "disk is full" in answer.text
        assert stored > 0

        upload = client.http.put("/storage/local/tests/large/big.bin", content=b"y" * 8_000_000)
        assert upload.status_code == 507, upload.text
        assert not list((disk / "data").rglob("big.bin"))

        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)

        def goes_on() -> bool:
            again = client.stream("filler", files={"wandb-history.jsonl": {"offset": stored, "content": lines}})
            return again.status_code == 200

        wait_until(goes_on, what="the server stores again")
        assert client.http.put("/storage/local/tests/large/big.bin", content=b"y" * 8_000_000).status_code == 200
        run = client.data(
            'query Run { project(name: "tests", entityName: "local") { run(name: "filler") { historyLineCount } } }'
        )
        assert run["project"]["run"]["historyLineCount"] == stored + len(lines)
    with sqlite3.connect(f"file:{disk / 'data' / 'server.sqlite3'}?mode=ro", uri=True) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


@pytest.fixture
def person(shell: Shell, disk: Path) -> Shell:
    """Somebody whose offline server keeps its data on a small disk, and nothing else does."""
    (disk / "data").mkdir(mode=0o700)
    (shell.folder / ".wandb-submit").mkdir()
    (shell.folder / ".wandb-submit" / "server").symlink_to(disk / "data")
    return shell


def fill(disk: Path) -> None:
    subprocess.run(["sh", "-c", "yes >full"], cwd=disk, stderr=subprocess.DEVNULL, check=False)


def test_a_command_names_the_full_disk_and_not_the_sweep_file(person: Shell, disk: Path) -> None:
    sweep = person.sweep("pass", parameters={"x": {"values": [1]}})
    person.ok("server", "start")
    fill(disk)
    words = f"the server's disk is full: make room in {person.folder / '.wandb-submit' / 'server'}"
    # As in a shell that is pointed at the server, whose clients wait for days; a command is not to.
    done = person.run(sweep, "--offline", "--executor", "local", WANDB_X_GRAPHQL_RETRY_MAX="10085", timeout_s=60)
    assert (done.returncode, words in done.stderr) == (5, True), done.stderr
    assert sweep not in done.stderr
    assert f"it can store nothing now: {words}" in person.ok("server", "status")
    assert person.json("server", "status")["trouble"] == words
    examined = person.run("doctor", "--executor", "local")
    assert (examined.returncode, words in examined.stdout) == (1, True), examined.stdout
    (disk / "full").unlink()
    assert person.json("server", "status")["trouble"] is None
    assert person.json(sweep, "--offline", "--executor", "local", "--array", "1", "--wait")["runs_done"] == 1


def test_a_server_that_cannot_start_on_a_full_disk_says_so_in_one_sentence(person: Shell, disk: Path) -> None:
    fill(disk)
    done = person.run("server", "start")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: cannot write to {person.folder / '.wandb-submit' / 'server'}: ")
    assert "make room there, or name another folder in WANDB_SUBMIT_DIR" in line


def test_room_that_is_only_in_the_log_is_used(serve: Serve, disk: Path) -> None:
    """The log of the database holds the same pages again and again; it alone would fill the disk several times."""
    with Protocol(serve(disk / "data")) as client:
        client.start_run("same")
        for number in range(100):
            summary = json.dumps({"number": number, "text": "x" * 300_000})
            answer = client.stream("same", files={"wandb-summary.json": {"offset": 0, "content": [summary]}})
            assert answer.status_code == 200, (number, answer.text)


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ("yes >full", "No space left on device"),
        ("for i in $(seq 5000); do : >$i || break; done", "No space left on device"),
        ("mount -o remount,ro .", "Read-only file system"),
    ],
    ids=["full", "inodes", "read-only"],
)
@pytest.mark.parametrize("place", ["WANDB_SUBMIT_DIR", "WANDB_DIR", "TMPDIR", "HOME"])
def test_doctor_fails_where_nothing_can_be_written(
    shell: Shell, tmp_path: Path, place: str, trouble: str, why: str
) -> None:
    with small_disk(tmp_path / "small", "1m,nr_inodes=50") as disk:
        subprocess.run(["sh", "-c", trouble], cwd=disk, stderr=subprocess.DEVNULL, check=False)
        done = shell.run("doctor", "--executor", "local", "--json", **{place: str(disk)})
        (finding,) = (one for one in json.loads(done.stdout) if str(disk) in one["words"])
        # What wandb caches at home may be elsewhere.
        expected = (0, "warning") if place == "HOME" and "Read-only" in why else (1, "failed")
        assert (done.returncode, finding["verdict"]) == expected, finding
        if place != "HOME" or "Read-only" not in why:
            assert why in finding["words"] or (place, why) == ("WANDB_DIR", "Read-only file system")
            assert finding["remedy"]
