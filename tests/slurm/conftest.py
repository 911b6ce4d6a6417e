"""People on the login node of the test bed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm.bed import environment
from support import Shell, scrubbed


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
