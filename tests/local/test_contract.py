"""The local executor does what every executor does."""

from __future__ import annotations

from pathlib import Path

import pytest
from executor_contract import ExecutorContract

# The scheduler outlives whoever submits; here that is a process which looks at what it leaves behind.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class TestLocalExecutor(ExecutorContract):
    name = "local"

    @pytest.fixture(autouse=True)
    def _own_locks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WANDB_SUBMIT_LOCK_DIR", str(tmp_path / "locks"))
