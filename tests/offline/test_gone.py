"""A data folder that is deleted, moved or replaced under its server: it stops, says so, and harms nobody's files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from offline.clients import Protocol
from offline.conftest import Serve
from support import Shell, alive, wait_until

from wandb_submit.server.control import lifecycle

SERVER = Path(".wandb-submit", "server")


def rows(client: Protocol, run: str) -> int:
    query = 'query($n: String!) { project(name: "tests", entityName: "local") { run(name: $n) { historyLineCount } } }'
    return client.data(query, n=run)["project"]["run"]["historyLineCount"]


def upload(client: Protocol) -> int:
    return client.http.put("/storage/local/tests/run/file.txt", content=b"x").status_code


def replace(path: Path) -> None:
    """Puts a copy in the place of a file, as a restored backup or rsync does."""
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").rename(path)


LOSSES: dict[str, Callable[[Path], object]] = {
    "the folder is deleted": shutil.rmtree,
    "the folder is moved": lambda data: data.rename(data.with_name("elsewhere")),
    "the folder is replaced": lambda data: (data.rename(data.with_name("elsewhere")), data.mkdir(mode=0o700)),
    "the folder is a file": lambda data: (data.rename(data.with_name("elsewhere")), data.touch()),
    "the database is deleted": lambda data: (data / "server.sqlite3").unlink(),
    "the database is replaced": lambda data: replace(data / "server.sqlite3"),
    "the log of the database is deleted": lambda data: (data / "server.sqlite3-wal").unlink(),
    "its index is deleted": lambda data: (data / "server.sqlite3-shm").unlink(),
    "the lock is deleted": lambda data: (data / "server.lock").unlink(),
    "the files are deleted": lambda data: shutil.rmtree(data / "files"),
    "the files are moved": lambda data: (data / "files").rename(data / "old"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_what_cannot_be_kept_is_not_acknowledged_and_the_server_stops(shell: Shell, loss: str) -> None:
    url = shell.ok("server", "start").partition(" ")[0]
    info = lifecycle.status(shell.folder / SERVER)
    assert info is not None
    assert info.url == url
    with Protocol(info) as client:
        client.start_run("run")
        client.log("run", [{"_step": 0}])
        assert upload(client) == 200
        os.kill(info.pid, signal.SIGSTOP)  # it has not looked yet when the next write comes
        LOSSES[loss](shell.folder / SERVER)
        told: list[str] = []

        def write() -> None:
            lines = {"wandb-history.jsonl": {"offset": 1, "content": ['{"_step": 1}']}}
            try:
                answer = client.stream("run", files=lines)
            except httpx.TransportError as error:  # it has looked before it has read the request
                told.append(str(error))
            else:
                assert (answer.status_code, "ran: it has stopped" in answer.text) == (503, True), answer.text
                told.append(answer.text)

        writing = threading.Thread(target=write)
        writing.start()
        writing.join(1)  # the request is there
        os.kill(info.pid, signal.SIGCONT)
        writing.join(60)
        assert told
    wait_until(lambda: not alive(info.pid), what="the server has stopped", timeout_s=20)
    told = shell.run("server", "status")
    assert told.returncode == 3
    away = loss in ("the folder is deleted", "the folder is moved")
    assert ("server is not there" if away else "no server runs") in told.stderr
    if "database" in loss or "files" in loss:
        assert "it ended with: " in told.stderr
        assert "deleted, moved or replaced while" in told.stderr


def test_a_server_that_starts_beside_is_left_alone(serve: Serve, tmp_path: Path) -> None:
    first = serve(tmp_path / "data")
    os.kill(first.pid, signal.SIGSTOP)
    shutil.rmtree(tmp_path / "data")
    second = serve(tmp_path / "data")
    with Protocol(second) as client:
        client.start_run("run")
        os.kill(first.pid, signal.SIGCONT)
        wait_until(lambda: not alive(first.pid), what="the first one has stopped", timeout_s=20)
        assert lifecycle.status(tmp_path / "data") == second
        client.log("run", [{"_step": 0}])
        assert (tmp_path / "data" / "server.sqlite3-wal").stat().st_size > 0
        assert upload(client) == 200
        assert "error:" not in (tmp_path / "data" / "server.log").read_text()


def test_ending_a_server_leaves_anothers_address(serve: Serve, tmp_path: Path) -> None:
    first = serve(tmp_path / "data")
    path = tmp_path / "data" / "server.json"
    others = json.dumps({**json.loads(path.read_text()), "pid": 1, "hostname": "login2"})
    path.write_text(others)
    os.kill(first.pid, signal.SIGTERM)
    wait_until(lambda: not alive(first.pid), what="it has ended")
    assert path.read_text() == others


def test_an_address_that_somebody_deletes_is_written_again(serve: Serve, tmp_path: Path) -> None:
    info = serve(tmp_path / "data")
    (tmp_path / "data" / "server.json").unlink()
    assert wait_until(lambda: lifecycle.status(tmp_path / "data"), what="the address is there again") == info


def test_a_backup_that_is_restored_in_place_is_not_mixed_with_what_the_server_had(shell: Shell) -> None:
    shell.ok("server", "start")
    data = shell.folder / SERVER
    info = lifecycle.status(data)
    assert info is not None
    with Protocol(info) as client:
        client.start_run("run")
        client.log("run", [{"_step": 0}])
        shell.ok("server", "backup", "saved")
        client.log("run", [{"_step": number} for number in range(1, 500)], offset=1)
    shutil.copyfile(shell.folder / "saved" / "server.sqlite3", data / "server.sqlite3")  # as `cp` does
    wait_until(lambda: not alive(info.pid), what="the server has stopped", timeout_s=20)
    assert "server.sqlite3 was overwritten while" in shell.run("server", "status").stderr
    shell.ok("server", "start")
    again = lifecycle.status(data)
    assert again is not None
    with Protocol(again) as client:
        assert rows(client, "run") == 1


def test_a_servers_own_copying_of_its_log_is_no_strangers(serve: Serve, tmp_path: Path) -> None:
    info = serve(tmp_path / "data")
    lines = [json.dumps({"_step": step, "text": "x" * 9000}) for step in range(500)]
    with Protocol(info) as client:
        client.start_run("run")
        for number in range(12):
            files = {"wandb-history.jsonl": {"offset": 500 * number, "content": lines}}
            assert client.stream("run", files=files).status_code == 200
        assert (tmp_path / "data" / "server.sqlite3").stat().st_size > 10_000_000
        subprocess.run(["sleep", "1.5"], check=True)
        assert rows(client, "run") == 6000
    assert lifecycle.status(tmp_path / "data") == info


def test_agents_and_status_say_what_has_become_of_the_server(shell: Shell) -> None:
    script = "import time, wandb\nwith wandb.init():\n    time.sleep(600)\n"
    sent = shell.json(
        shell.sweep(script, parameters={"x": {"values": [1, 2]}}),
        *("--offline", "--executor", "local", "--array", "1", "--detach"),
    )
    wait_until(lambda: shell.events(sent["id"], "run_started"), what="a run is at work")
    (shell.folder / SERVER / "server.sqlite3").unlink()
    wait_until(
        lambda: "server.sqlite3 was deleted, moved or replaced while" in shell.ok("status", sent["id"]),
        what="status says so",
    )
    shell.run("cancel", sent["id"])
    shell.run("wait", sent["id"])
