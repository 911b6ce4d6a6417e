"""The files of a server on another file system, to which its owner has put a link."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from offline.clients import Protocol, Wandb
from offline.conftest import Serve
from support import wait_until

LOG = """
import json, os, wandb
with wandb.init(project="disks", id="run") as run:
    with open("file.txt", "w") as file:
        file.write("kept")
    run.save("file.txt", policy="now")
    artifact = wandb.Artifact("data", "dataset")
    artifact.add_file("file.txt", name="inside.txt")
    run.log_artifact(artifact).wait()
api = wandb.Api()
back = api.run("local/disks/run").file("file.txt").download("back", replace=True).read()
folder = api.artifact("local/disks/data:latest").download("artifact")
print("RESULT", json.dumps([back, open(os.path.join(folder, "inside.txt")).read()]))
"""
DELETE = """
import json, wandb
wandb.Api().run("local/disks/run").delete()
print("RESULT", json.dumps(None))
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    memory = Path("/dev/shm")
    assert memory.stat().st_dev != tmp_path.stat().st_dev, "/dev/shm is to be another file system"
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.mark.client
def test_files_come_and_go_on_another_file_system(
    serve: Serve, tmp_path: Path, elsewhere: Path, clean_env: Mapping[str, str]
):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    for name in ("files", "artifacts"):
        (elsewhere / name).mkdir()
        (data / name).symlink_to(elsewhere / name)
    info = serve(data)
    wandb = Wandb.at(info, tmp_path, clean_env)
    assert wandb.python(LOG) == ["kept", "kept"]

    def drafts() -> list[Path]:
        return [*elsewhere.rglob("#*"), *(data / "uploads").iterdir()]

    assert drafts() == []

    def halves() -> Iterator[bytes]:
        yield b"x"
        wait_until(drafts, what="the first half has come")
        raise ConnectionError  # the client vanishes

    with Protocol(info, project="disks") as client, pytest.raises(ConnectionError):
        client.http.put("/storage/local/disks/run/cut.bin", content=halves())
    wait_until(lambda: not drafts(), what="nothing is left of the upload")
    wandb.python(DELETE)
    wait_until(lambda: not drafts() and not list((elsewhere / "files").rglob("*.txt")), what="the run's files are gone")
