"""People on the login node of the test bed."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm.bed import OWN, PORT, SCRIPT, environment
from support import Shell, scrubbed

# `make torch` runs it; torch is too large for every checkout.
collect_ignore = [] if os.environ.get("WANDB_SUBMIT_TORCH") else ["test_torch.py"]


@pytest.fixture(scope="session", autouse=True)
def bed() -> Iterator[None]:
    """The test bed runs; one that is only for this process of the tests ends with it."""
    subprocess.run([SCRIPT, "start"], check=True, timeout=300)
    yield
    if OWN:
        subprocess.run([SCRIPT, "stop", "--purge"], check=True, timeout=120)


@pytest.fixture
def root_shell(public_tmp: Path, clean_env: dict[str, str]) -> Iterator[Shell]:
    """Root on the login node."""
    shell = Shell(folder=public_tmp, env={**clean_env, **environment()})
    yield shell
    subprocess.run(["scancel", "--user=root"], env=dict(shell.env), check=False, timeout=60)
    shell.leave()


@pytest.fixture
def user_shell(public_tmp: Path, installed: Path) -> Iterator[Shell]:
    """A normal user on the login node, with the wheel installed in an environment that the nodes can read."""
    env = {**scrubbed(public_tmp / "home"), **environment()}
    env["PATH"] = f"{installed}:/usr/bin:/bin"
    prefix = ("/usr/sbin/runuser", "-u", "tester", "--")
    subprocess.run(["chown", "-R", "tester", str(public_tmp)], check=True)
    shell = Shell(folder=public_tmp, env=env, prefix=prefix)
    yield shell
    subprocess.run(["scancel", "--user=tester"], env=env, check=False, timeout=60)
    shell.leave()


@pytest.fixture
def second_bed() -> Iterator[dict[str, str]]:
    """The variables of another test bed, beside the shared one: without accounting, and soon forgetting jobs."""
    # Not pytest's tmp_path: Slurm makes sockets in there, and their names must not be long.
    with tempfile.TemporaryDirectory() as folder:
        prefix = f"{os.environ.get('TB_PREFIX', '')}b"
        variant = {"TB_DIR": f"{folder}/bed", "TB_PORT": str(PORT + 50), "TB_PREFIX": prefix}
        variant |= {"TB_ACCOUNTING": "0", "TB_MIN_JOB_AGE": "2"}

        def call(*argv: str) -> None:
            subprocess.run([SCRIPT, *argv], env={**os.environ, **variant}, check=True, timeout=120)

        try:
            call("start")
            yield variant
        finally:
            call("stop", "--purge")
