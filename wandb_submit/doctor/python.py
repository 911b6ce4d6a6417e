"""The Python that runs get: the first on `PATH`, as `wandb agent` would take it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator

from wandb_submit import process
from wandb_submit.doctor.finding import Finding, Verdict
from wandb_submit.errors import WandbSubmitError

_TIMEOUT_S = 60.0
_ASK = """
import importlib.metadata as metadata, os, sys
folder = os.path.isdir("wandb") and os.path.exists("wandb/__init__.py") or os.path.exists("wandb.py")
try:
    version = metadata.version("wandb")
except metadata.PackageNotFoundError:
    version = "none"
print(sys.version.split()[0], version, "shadowed" if folder else "free")
"""


def findings() -> Iterator[Finding]:
    """Checks that runs find a Python, and a `wandb` in it."""
    path = shutil.which("python")
    if path is None:
        yield Finding(
            topic="runs' Python",
            words="no `python` on PATH, which the sweep's command names by default",
            verdict=Verdict.FAILED,
            remedy="activate the training environment, or name one: --python ENV/bin/python",
        )
        return
    try:
        answer = process.run([path, "-c", _ASK], timeout_s=_TIMEOUT_S)
    except WandbSubmitError as error:
        yield _broken(path, str(error))
        return
    if answer.returncode != 0:
        yield _broken(path, answer.stderr.strip()[-200:])
        return
    version, client, shadow = answer.stdout.split()[-3:]
    if shadow == "shadowed":
        yield Finding(
            topic="runs' Python",
            words="a `wandb` of yours lies in the current folder: `import wandb` finds it instead of the client",
            verdict=Verdict.FAILED,
            remedy="rename it, or submit from another folder",
        )
    if client == "none":
        yield Finding(
            topic="runs' Python",
            words=f"{path} ({version}) has no wandb",
            verdict=Verdict.WARNING,
            remedy="`pip install wandb` there, activate another environment, or name one with --python",
        )
    else:
        own = "" if path != sys.executable else "; it is also the one of wandb-submit"
        yield Finding(topic="runs' Python", words=f"{path} ({version}) with wandb {client}{own}")


def _broken(path: str, why: str) -> Finding:
    return Finding(
        topic="runs' Python",
        words=f"{path} does not run: {why}",
        verdict=Verdict.FAILED,
        remedy="activate another environment, or name one with --python",
    )
