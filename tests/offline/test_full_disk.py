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
from support import small_disk, wait_until


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
