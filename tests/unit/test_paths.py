from __future__ import annotations

from pathlib import Path

import pytest

from wandb_submit.store import paths
from wandb_submit.store.paths import SubmissionPaths


def test_submissions_live_below_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths.home() == tmp_path / ".wandb-submit"
    assert paths.server_dir() == tmp_path / ".wandb-submit" / "server"


def test_the_environment_can_move_them_and_its_tilde_is_the_home(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("WANDB_SUBMIT_DIR", "~/runs here")
    assert paths.home() == home / "runs here"


def test_no_two_files_of_a_submission_share_a_path(tmp_path: Path) -> None:
    files = SubmissionPaths(tmp_path / "abc")
    own = [files.submission, files.jobs, files.agents, files.events("0"), files.events("1"), files.run_log("r")]
    assert len(set(own)) == len(own)
    assert all(path.is_relative_to(files.folder) for path in own)
    assert files.id == "abc"
