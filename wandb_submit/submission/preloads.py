"""Whether the modules of `--preload` are there, asked before a sweep is created whose runs could not begin."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wandb_submit.errors import ConfigError, WandbSubmitError
from wandb_submit.spec import SubmissionSpec
from wandb_submit.system import process

_TIMEOUT_S = 20.0
# Looks for them where a run does, which has its program's folder first, or the current one (-m), and imports none.
_ASK = """
import importlib.util, json, sys
sys.path[0:1] = sys.argv[1:3]
print(json.dumps([name for name in sys.argv[3:] if importlib.util.find_spec(name) is None]))
"""
_PYTHON = re.compile(r"python[0-9.]*")
# Where every machine has a Python of its own: a node's may have what ours lacks.
_EACH_MACHINES_OWN = ("/usr", "/bin")


def check(spec: SubmissionSpec, config: Mapping[str, Any]) -> None:
    """Makes sure that the runs' Python here finds the modules that were asked for.

    Where that cannot be known here, because a setup or a wrapper prepares the runs' Python, the agents will tell.

    Args:
        spec: what was asked for.
        config: the configuration of the sweep that is to be created.

    Raises:
        ConfigError: if one of them is not there.
    """
    python = _interpreter(spec, config)
    if python is None or spec.preload is None or not spec.preload.required:
        return
    program = Path(os.path.realpath(spec.workdir / str(config.get("program") or "")))
    names = dict.fromkeys(module.partition(".")[0] for module in spec.preload.modules)
    try:
        answer = process.run(
            [python, "-c", _ASK, str(program.parent), str(spec.workdir), *names],
            timeout_s=_TIMEOUT_S,
            env={**os.environ, **spec.activation.env},
        )
        missing = json.loads(answer.stdout) if answer.returncode == 0 else []
    except (WandbSubmitError, ValueError):
        return
    if missing:
        raise ConfigError(
            f"--preload {','.join(missing)}: {python}, which the runs would have, finds no such module: "
            "activate their environment, name it with --python, or leave the module out"
        )


def _interpreter(spec: SubmissionSpec, config: Mapping[str, Any]) -> str | None:
    """The runs' Python; `None` if it cannot be known or is not the nodes'."""
    words = [word for word in map(str, config.get("command") or ["${interpreter}"]) if word != "${env}"]
    first = words[0] if words else ""
    if spec.activation.setup or not (first == "${interpreter}" or _PYTHON.fullmatch(Path(first).name)):
        return None
    named = (spec.activation.python or "python") if first in ("${interpreter}", "python") else first
    path = shutil.which(named, path=spec.activation.env.get("PATH"))
    if path is None or (spec.executor == "slurm" and any(Path(path).is_relative_to(own) for own in _EACH_MACHINES_OWN)):
        return None
    return path
