"""The real Slurm cluster that the tests submit to (tests/testbed/slurm)."""

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

# Side by side each process of the tests has a cluster of its own, on other ports, for a test cancels all jobs at its
# end; the first has the one that people have by hand.
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
OWN = _worker > 0
PORT = int(os.environ.get("TB_PORT", "17600")) + 100 * _worker
if OWN:
    os.environ["TB_DIR"] = f"{os.environ.get('TB_DIR', '/var/tmp/wandb-submit-slurm')}-{_worker}"
    os.environ["TB_PORT"] = str(PORT)
    os.environ["TB_PREFIX"] = f"{os.environ.get('TB_PREFIX', '')}w{_worker}"
# Its nodes.
GPU1, GPU2, CPU1 = (os.environ.get("TB_PREFIX", "") + name for name in ("gpu1", "gpu2", "cpu1"))
SCRIPT = Path(__file__).resolve().parents[1] / "testbed" / "slurm"


def environment(variant: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the variables that point Slurm's commands at the test bed.

    They are to be added to the environment of the process that submits:
    ``{**os.environ, **environment()}``.

    Args:
        variant: The ``TB_*`` variables of another test bed than the shared one.

    Raises:
        RuntimeError: There is no such test bed; the text says how to start it.
    """
    env = {**os.environ, **(variant or {})}
    done = subprocess.run([SCRIPT, "env"], env=env, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{done.stderr.strip()} (as root: {SCRIPT} start)")
    words = (shlex.split(line) for line in done.stdout.splitlines())
    return dict(word[1].split("=", 1) for word in words if word[:1] == ["export"])
