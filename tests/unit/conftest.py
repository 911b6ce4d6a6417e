"""What every unit test starts from: an environment that says nothing, and programs that can be put on PATH."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

Program = Callable[[str, str], Path]

settings.register_profile("unit", deadline=None)  # a busy machine is no failure
settings.load_profile("unit")

_SCRUBBED = ("WANDB_", "SLURM_", "SBATCH_", "SUBMITIT_", "CUDA_", "ROCR_", "HIP_", "XDG_")


@pytest.fixture(autouse=True)
def _scrubbed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes away what this machine's user has set: W&B, Slurm, devices, proxies and the home folder."""
    for name in list(os.environ):
        if name.startswith(_SCRUBBED) or name.lower().endswith("_proxy") or name == "NETRC":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("WANDB_SUBMIT_LOCK_DIR", str(tmp_path_factory.mktemp("locks")))


@pytest.fixture
def home() -> Path:
    """The home folder of the test."""
    return Path(os.environ["HOME"])


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Puts a shell program of that name and body first on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def put(name: str, body: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    return put
