"""Copies of a server's data: made under load, private, and as good as the original."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from offline.clients import Protocol
from offline.conftest import Serve

from wandb_submit.errors import NotFoundError, RefusedError
from wandb_submit.server.control import backup, lifecycle
from wandb_submit.server.control.backup import back_up
from wandb_submit.system.files import write_private


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "deep" / "copy"
    lifecycle.stop(tmp_path / "deep" / "copy")


def test_a_copy_made_under_load_goes_on_where_the_server_was(serve: Serve, tmp_path: Path, copy: Path):
    info = serve(tmp_path / "data", "--seed", "7")
    with Protocol(info) as client:
        sweep = client.create_sweep(method="grid", parameters={"x": {"values": list(range(50))}})
        agent = client.agent(sweep)
        first = client.take_run(agent)["run_id"]
        client.start_run(first, sweep=sweep)
        client.start_run("logged")
        file = f"/storage/{client.entity}/{client.project}/logged/media/a b.bin"
        assert client.http.put(file, content=b"0123456789" * 1000).status_code == 200
        acknowledged, enough = [0], threading.Event()

        def log() -> None:
            with Protocol(info) as writer:
                while not enough.is_set():
                    writer.log("logged", [{"n": acknowledged[0]}], offset=acknowledged[0])
                    acknowledged[0] += 1

        thread = threading.Thread(target=log)
        thread.start()
        try:
            while acknowledged[0] < 50:
                enough.wait(0.01)
            before = acknowledged[0]
            back_up(info.data_dir, copy)
            after = acknowledged[0]
        finally:
            enough.set()
            thread.join()
    assert all(path.stat().st_mode & 0o077 == 0 for path in [copy, *copy.rglob("*")])
    assert stat.S_ISDIR(copy.stat().st_mode)
    assert not (copy / "server.json").exists()
    assert not list(copy.parent.glob(".copy.*"))

    restored = lifecycle.start(copy)
    assert restored.url != info.url
    assert restored.api_key == info.api_key
    with Protocol(restored) as client:
        run = client.data(
            '{ project(name: "tests", entityName: "local") { run(name: "logged") { historyLineCount } } }'
        )["project"]["run"]
        assert before <= run["historyLineCount"] <= after + 1
        assert client.http.get(file).content == b"0123456789" * 1000
        # The sweep goes on there, and does not begin again.
        assert list(client.runs(sweep)) == [first]
        assert client.take_run(agent)["run_id"] != first


def test_nothing_is_written_over_and_nothing_left_after_a_failure(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    info = serve(tmp_path / "data")
    (tmp_path / "there").mkdir()
    with pytest.raises(RefusedError, match="exists already"):
        back_up(info.data_dir, tmp_path / "there")
    with pytest.raises(RefusedError, match="own folder"):
        back_up(info.data_dir, info.data_dir / "copy")
    with pytest.raises(NotFoundError, match="no offline sweep server's data"):
        back_up(tmp_path / "there", tmp_path / "copy")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    for step in ("_copy", "_copy_database"):
        with monkeypatch.context() as patch:
            patch.setattr(backup, step, full)
            with pytest.raises(RefusedError, match="No space left on device; nothing was left there"):
                back_up(info.data_dir, tmp_path / "copy")
        assert {path.name for path in tmp_path.iterdir()} == {"data", "there"}

    def broken(*_: object) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(backup, "_copy_database", broken)
    with pytest.raises(RefusedError, match="disk is full"):
        back_up(info.data_dir, tmp_path / "copy")
    assert {path.name for path in tmp_path.iterdir()} == {"data", "there"}


def test_a_server_on_another_machine_is_copied_there(serve: Serve, tmp_path: Path):
    info = serve(tmp_path / "data")
    known = (info.data_dir / "server.json").read_text()
    write_private(info.data_dir / "server.json", known.replace(f'"hostname": "{info.machine}"', '"hostname": "login2"'))
    with pytest.raises(RefusedError, match="runs on login2: make the backup there"):
        back_up(info.data_dir, tmp_path / "copy")
