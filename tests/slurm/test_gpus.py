"""Tasks whose node does not show them the GPUs that Slurm gave them: a site's prolog has changed the variable."""

from __future__ import annotations

import pytest
from support import Shell

pytestmark = pytest.mark.slurm


@pytest.mark.parametrize(
    ("prolog", "complaint"),
    [
        ("unset CUDA_VISIBLE_DEVICES", "sees none (CUDA_VISIBLE_DEVICES is not set, although it has"),
        ("export CUDA_VISIBLE_DEVICES=9", "CUDA_VISIBLE_DEVICES is '9', but Slurm gave it"),
    ],
)
def test_a_task_without_its_gpus_takes_no_run(root_shell: Shell, prolog: str, complaint: str) -> None:
    sweep = root_shell.sweep("pass", parameters={"x": {"values": [1, 2]}})
    path = root_shell.folder / "prolog"
    path.write_text(f"#!/bin/sh\necho {prolog}\n")
    path.chmod(0o755)
    # Slurm runs it in each task and takes over what it prints (https://slurm.schedmd.com/prolog_epilog.html).
    setup = f"export SLURM_TASK_PROLOG={path}"
    options = ("--offline", "--executor", "slurm", "--array", "1", "--gpus-per-task", "1", "--setup", setup)
    done = root_shell.run(sweep, *options, "--wait", timeout_s=240)
    assert done.returncode == 1, done.stderr
    (stopped,) = root_shell.events(root_shell.json("status")["id"])
    assert (stopped["event"], stopped["ok"], stopped["runs"]) == ("agent_stopped", False, 0)
    assert complaint in stopped["reason"]
    assert complaint in done.stdout + done.stderr
