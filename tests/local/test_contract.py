"""The local executor does what every executor does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from executor_contract import ExecutorContract

from wandb_submit.executors.base import Executor
from wandb_submit.store.paths import SubmissionPaths

# The scheduler outlives whoever submits; here that is a process which looks at what it leaves behind.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class TestLocalExecutor(ExecutorContract):
    name = "local"

    @pytest.fixture(autouse=True)
    def _own_locks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WANDB_SUBMIT_LOCK_DIR", str(tmp_path / "locks"))

    def test_nothing_runs_that_is_not_on_record(self, executor: Executor, paths: SubmissionPaths) -> None:
        before = sorted(paths.folder.rglob("*"))

        def fail(jobs: Sequence[str]) -> None:
            assert jobs == [f"{paths.id}_0", f"{paths.id}_1"]
            raise OSError("the disk is full")

        with pytest.raises(OSError, match="the disk is full"):
            executor.submit(executor.plan(self.spec(paths.folder, 2, None), paths), [lambda: None] * 2, paths, fail)
        assert sorted(paths.folder.rglob("*")) == before
