"""The Slurm executor does what every executor does, on the test bed."""

from __future__ import annotations

import pytest
from executor_contract import ExecutorContract
from slurm.bed import environment

pytestmark = pytest.mark.slurm


class TestSlurmExecutor(ExecutorContract):
    name = "slurm"

    @pytest.fixture(autouse=True)
    def _on_the_login_node(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in environment().items():
            monkeypatch.setenv(name, value)
