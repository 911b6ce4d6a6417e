"""A job for nodes that are all drained waits for them, as sbatch's own does."""

from __future__ import annotations

import pytest
from support import Shell

pytestmark = pytest.mark.slurm


def test_a_job_for_a_drained_node_is_taken(root_shell: Shell) -> None:
    node = root_shell.call("sinfo", "--noheader", "--Node", "--partition=gpu", "--format=%N").stdout.split()[0]
    sweep = root_shell.sweep("pass", parameters={"x": {"value": 1}})
    options = (sweep, "--offline", "--array", "1", "--nodelist", node)
    root_shell.call("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
    try:
        submitted = root_shell.json(*options)
        (task,) = root_shell.json("status", submitted["id"])["tasks"]
        assert task["state"] == "pending"
        elsewhere = root_shell.run(*options[:-2], "--partition", "gpu", "--cpus-per-task", "99")
        assert f"down or drained now: {node}" in elsewhere.stderr
        root_shell.ok("cancel", submitted["id"])
    finally:
        root_shell.call("scontrol", "update", f"NodeName={node}", "State=RESUME")
