"""The Python that runs get: the first on `PATH`, as `wandb agent` would take it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from wandb_submit.doctor import client_versions
from wandb_submit.doctor.finding import Finding, Verdict
from wandb_submit.errors import WandbSubmitError
from wandb_submit.system import process

_TIMEOUT_S = 120.0  # importing wandb from a cold network file system
_TOPIC = "runs' Python"
# Runs in the current folder. It looks at the scripts there for parts of wandb that this version lacks: those that
# are not documented move or go every few months.
_ASK = """
import ast, glob, importlib.metadata, importlib.util, json, os, sys

def wandbs(path):
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("wandb."))
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith("wandb."):
            yield node.module

def there(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False

found = {"python": sys.version.split()[0], "wandb": None, "broken": "", "gone": {}}
found["shadowed"] = os.path.exists("wandb/__init__.py") or os.path.exists("wandb.py")
try:
    found["wandb"] = importlib.metadata.version("wandb")
except importlib.metadata.PackageNotFoundError:
    pass
if found["wandb"] and not found["shadowed"]:
    try:
        import wandb
    except BaseException as error:
        found["broken"] = f"{type(error).__name__}: {error}"
    else:
        for path in sorted(glob.glob("*.py"))[:100]:
            if gone := sorted({module for module in wandbs(path) if not there(module)}):
                found["gone"][path] = gone
print(json.dumps(found))
"""


def findings() -> Iterator[Finding]:
    """Checks that runs find a Python, and a `wandb` in it that works."""
    path = shutil.which("python")
    if path is None:
        yield Finding(
            topic=_TOPIC,
            words="no `python` on PATH, which the sweep's command names by default",
            verdict=Verdict.FAILED,
            remedy="activate the training environment, or name one: --python ENV/bin/python",
        )
        return
    try:
        answer = process.run([path, "-c", _ASK], timeout_s=_TIMEOUT_S)
        found = json.loads(answer.stdout.splitlines()[-1]) if answer.returncode == 0 else None
    except (WandbSubmitError, ValueError, IndexError) as error:
        yield _broken(path, str(error))
        return
    if found is None:
        yield _broken(path, answer.stderr.strip()[-200:])
        return
    yield from _of_client(path, found)


def _of_client(path: str, found: Mapping[str, Any]) -> Iterator[Finding]:
    if found["shadowed"]:
        yield Finding(
            topic=_TOPIC,
            words="a `wandb` of yours lies in the current folder: `import wandb` finds it instead of the client",
            verdict=Verdict.FAILED,
            remedy="rename it, or submit from another folder",
        )
    python, client = found["python"], found["wandb"]
    if client is None:
        yield Finding(
            topic=_TOPIC,
            words=f"{path} ({python}) has no wandb",
            verdict=Verdict.WARNING,
            remedy="`pip install wandb` there, activate another environment, or name one with --python",
        )
        return
    own = "" if path != sys.executable else "; it is also the one of wandb-submit"
    yield Finding(topic=_TOPIC, words=f"{path} ({python}) with wandb {client}{own}")
    if found["broken"]:
        yield Finding(
            topic="runs' wandb",
            words=f"`import wandb` fails: {found['broken'][:200]}",
            verdict=Verdict.FAILED,
            remedy="repair that environment: `pip check` names packages that do not fit together",
        )
    for script, modules in found["gone"].items():
        yield Finding(
            topic="runs' wandb",
            words=f"{script} imports {', '.join(modules)}, which wandb {client} does not have",
            verdict=Verdict.WARNING,
            remedy="use what W&B documents instead, mostly `wandb.Api()`; others of its modules move without notice",
        )
    yield from client_versions.findings(client)


def _broken(path: str, why: str) -> Finding:
    return Finding(
        topic=_TOPIC,
        words=f"{path} does not run: {why}",
        verdict=Verdict.FAILED,
        remedy="activate another environment, or name one with --python",
    )
