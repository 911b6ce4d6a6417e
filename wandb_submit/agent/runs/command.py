"""A run's command line, configuration file and environment, built exactly as `wandb agent` builds them.

The rules are those of `wandb/wandb_agent.py` and `wandb/sdk/launch/sweeps/utils.py` (wandb 0.31) and of
https://docs.wandb.ai/guides/sweeps/define-sweep-configuration#command.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wandb_submit.errors import ConfigError, NotFoundError
from wandb_submit.spec import SubmissionSpec, SweepRef

ENV = "/usr/bin/env"
DEFAULT_COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")

_ENVVAR = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")
_FUNCTION_PROGRAM = Path(__file__).with_name("programs") / "function.py"
# Set for the agent's own job by submitit; a trial that submits jobs of its own must not inherit them.
_NOT_FOR_TRIALS = ("WANDB_SERVICE",)
_NOT_FOR_TRIALS_PREFIX = "SUBMITIT_"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFiles:
    """Where a run's configuration is written for `wandb.init()` and for `${args_json_file}`."""

    config: Path
    args_json: Path

    @classmethod
    def of(cls, wandb_dir: str, sweep_id: str, run_id: str) -> RunFiles:
        """The stock agent's names: `$WANDB_DIR/wandb/sweep-SWEEP/config-RUN.yaml` and `.json`."""
        folder = Path(wandb_dir) / "wandb" / f"sweep-{sweep_id}"
        return cls(config=folder / f"config-{run_id}.yaml", args_json=folder / f"config-{run_id}.json")


def parameters(args: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a command's `args`, `{"lr": {"value": 0.1}}`, into `{"lr": 0.1}`.

    Raises:
        ConfigError: if an entry has no `value`.
    """
    try:
        return {name: entry["value"] for name, entry in args.items()}
    except (TypeError, KeyError) as error:
        raise ConfigError(f"the server sent parameters without a value: {json.dumps(args)[:200]}") from error


def macros(program: str | None, params: Mapping[str, Any], files: RunFiles) -> dict[str, list[str]]:
    """What each `${macro}` of a sweep's `command` stands for, as a list of arguments."""
    pairs = [f"{name}={value}" for name, value in params.items()]
    booleans_as_flags = [
        f"--{name}" if value is True else f"--{name}={value}" for name, value in params.items() if value is not False
    ]
    return {
        "env": [ENV],
        "interpreter": ["python"],
        "program": [program] if program else [],
        "args": [f"--{pair}" for pair in pairs],
        "args_no_equals": [part for name, value in params.items() for part in (f"--{name}", str(value))],
        "args_no_hyphens": pairs,
        "args_no_boolean_flags": booleans_as_flags,
        "args_append_hydra": [f"+{pair}" for pair in pairs],
        "args_override_hydra": [f"++{pair}" for pair in pairs],
        "args_json": [json.dumps(dict(params))],
        "args_json_file": [str(files.args_json)],
    }


def build_argv(
    command: Sequence[object] | None, program: str | None, params: Mapping[str, Any], files: RunFiles
) -> list[str]:
    """Builds a run's argument list from the sweep's `command`.

    Args:
        command: the sweep's `command:` list; empty or `None` means W&B's default.
        program: the sweep's `program:`.
        params: the run's parameters.
        files: where its configuration files are.

    Returns:
        The arguments, the program to execute first. An element that is one whole macro becomes that macro's
        arguments, an unknown one nothing; environment variables are replaced anywhere in an element, by their
        own name where they are not set.

    Raises:
        ConfigError: if nothing is left to execute.
    """
    replacements = macros(program, params, files)
    argv: list[str] = []
    for element in command or DEFAULT_COMMAND:
        text = _ENVVAR.sub(lambda match: os.environ.get(match[1], match[1]), str(element))
        if text.startswith("${") and text.endswith("}"):
            argv += replacements.get(text[2:-1], [])
        else:
            argv.append(text)
    if not argv:
        raise ConfigError(f"the sweep's command {list(command or ())!r} leaves nothing to execute")
    return argv


def check_program(argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
    """Looks for the program that a command runs, itself or by `/usr/bin/env`, where the kernel would.

    Raises:
        NotFoundError: if there is no such executable file.
    """
    program = argv[1] if len(argv) > 1 and argv[0] == ENV else argv[0]
    if program.startswith("-") or "=" in program:  # an option of env's, or a variable: what follows is for it to read
        return
    is_path = "/" in program
    if shutil.which(str(cwd / program) if is_path else program, path=os.pathsep.join(os.get_exec_path(env))) is None:
        where = f"{cwd / program} is no executable file" if is_path else f"PATH is {env.get('PATH')!r}"
        raise NotFoundError(f"no run can be started: there is no program {program!r}, which they run; {where}")


def function_argv(spec: SubmissionSpec) -> list[str]:
    """A run's argument list where it calls the submission's function.

    The interpreter is the one that submitted, whose modules the function knows, or what was named in its place.
    """
    return ["python" if spec.activation.python else sys.executable, str(_FUNCTION_PROGRAM)]


def write_files(files: RunFiles, args: Mapping[str, Any], params: Mapping[str, Any], command: Sequence[object]) -> None:
    """Writes the configuration that `wandb.init()` reads, and the JSON file if the command asks for it."""
    files.config.parent.mkdir(parents=True, exist_ok=True)
    text = "wandb_version: 1"
    if args:
        text += "\n\n" + yaml.safe_dump(dict(args), default_flow_style=False, allow_unicode=True, sort_keys=False)
    files.config.write_text(text, encoding="utf-8")
    if "${args_json_file}" in command:
        files.args_json.write_text(json.dumps(dict(params)), encoding="utf-8")


def clean_environment(base: Mapping[str, str]) -> dict[str, str]:
    """A task's environment without what is the task's own."""
    return {
        name: value
        for name, value in base.items()
        if name not in _NOT_FOR_TRIALS and not name.startswith(_NOT_FOR_TRIALS_PREFIX)
    }


def build_environment(
    base: Mapping[str, str],
    *,
    sweep: SweepRef,
    run_id: str,
    files: RunFiles,
    wandb_dir: str,
    server: Mapping[str, str],
) -> dict[str, str]:
    """Builds a run's environment.

    Args:
        base: the task's environment, cleaned, with the devices that the scheduler set.
        sweep: the sweep that the run belongs to.
        run_id: the run's id.
        files: where its configuration is.
        wandb_dir: the folder that `wandb` writes below.
        server: the variables that name the W&B server.
    """
    return {
        **base,
        **server,
        "WANDB_ENTITY": sweep.entity,
        "WANDB_PROJECT": sweep.project,
        "WANDB_SWEEP_ID": sweep.id,
        "WANDB_RUN_ID": run_id,
        "WANDB_SWEEP_PARAM_PATH": str(files.config),
        "WANDB_DIR": wandb_dir,
    }
