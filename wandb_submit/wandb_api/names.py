"""What a person names a sweep by: an id, a path, a URL, or a YAML file to create it from."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wandb_submit.errors import ConfigError, NotFoundError
from wandb_submit.system.mappings import read_mapping
from wandb_submit.wandb_api import sweep_commands, sweep_configs, sweep_names
from wandb_submit.wandb_api.sweep_names import SweepName

__all__ = ["SweepFile", "SweepName", "doubts", "grid_size", "parse"]

_GIVEN = Path("the given configuration")
_FILES = (".yaml", ".yml", ".py", ".ipynb", ".sh")  # names of files, whether they are there or not


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepFile:
    """A sweep configuration to create a sweep from.

    Attributes:
        path: where it comes from, in messages.
        warnings: what may not come out as it was meant.
    """

    path: Path
    config: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


def parse(sweep: str | os.PathLike[str] | Mapping[str, Any], *, needs_program: bool = True) -> SweepName | SweepFile:
    """Reads what a person names a sweep by: an id, a path, a URL, a YAML file, or a configuration itself.

    Args:
        sweep: what was given.
        needs_program: whether a configuration has to say what its runs execute.

    Raises:
        ConfigError: if it is none of them, or the file is not a sweep configuration.
        NotFoundError: if it names a file that is not there.
    """
    if isinstance(sweep, Mapping):
        return _checked(dict(sweep), _GIVEN, needs_program=needs_program)
    if not isinstance(sweep, str | os.PathLike):
        raise ConfigError(f"{sweep!r} is neither a sweep's name or file nor its configuration as a dictionary")
    text = os.fspath(sweep).strip()
    if text.endswith(_FILES) or os.path.isfile(text):  # noqa: PTH113 Path.is_file raises on a long text
        path = Path(text)
        sweep_names.refuse_other_file(path)
        if not os.path.exists(text):  # noqa: PTH110 likewise
            raise sweep_names.no_file(path)
        return _checked(read_mapping(path, "sweep"), path, needs_program=needs_program)
    return sweep_names.read(text)


def _checked(config: dict[str, Any], path: Path, *, needs_program: bool) -> SweepFile:
    problems = []
    if not config.get("method"):
        problems.append(f"it lacks `method:` (grid, random or bayes){_misspelt('method', config)}")
    parameters = config.get("parameters")
    if not isinstance(parameters, dict) or not parameters:
        problems.append(
            f"it lacks `parameters:`, a mapping of names to values or distributions{_misspelt('parameters', config)}"
        )
    else:
        odd = [name for name, entry in parameters.items() if not isinstance(entry, dict)]
        problems += [f"parameter {name!r} is not a mapping: write `{name}: {{value: …}}`" for name in odd]
    metric = config.get("metric", {"name": "none"})
    if not isinstance(metric, dict) or not metric.get("name"):
        problems.append("`metric:` is not a mapping with a `name:`")
    if needs_program and not config.get("program") and not config.get("command"):
        problems.append(f"it lacks `program:`, the script to run{_misspelt('program', config)}")
    said = sweep_configs.remarks(config)
    if problems := [*problems, *said.errors]:
        told = "; ".join(problems)
        more = [warning for warning in said.warnings if f"{warning.partition(':`')[0]}:`?" not in told]
        raise ConfigError(f"{path} is not a sweep configuration: {'; '.join([told, *more])}")
    warnings = tuple(f"{path}: {warning}" for warning in said.warnings)
    return SweepFile(path=path, config=_find_program(config, path) if needs_program else config, warnings=warnings)


def _misspelt(key: str, config: Mapping[str, Any]) -> str:
    """Says which key may have been meant to be that one, where there is such."""
    near = difflib.get_close_matches(key, [str(other) for other in config if other != key], n=1, cutoff=0.8)
    return f": did you mean it by `{near[0]}:`?" if near else ""


def _find_program(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """Lets a program be named relative to its sweep file.

    Agents start programs from the folder that they are submitted in. One that is not there but beside the
    sweep file is what `program: train.py` means to a person.

    Raises:
        NotFoundError: if a script is in neither place, and the runs would be started with it.
    """
    program = config.get("program")
    if isinstance(program, str) and not Path(program).exists() and (path.parent / program).is_file():
        config = {**config, "program": str(path.parent / program)}
    missing = sweep_commands.missing_script(config)
    if missing is None:
        return config
    if " " in missing:
        raise NotFoundError(f"{path}: there is no program {missing!r}: write its arguments into `command:`")
    if (path.parent / missing).is_file():
        raise NotFoundError(f"{path} wants to run {missing}, which is not in this folder but beside it: submit there")
    beside = "" if path.parent.samefile(".") else f" and none beside {path}"
    raise NotFoundError(f"{path} wants to run {missing}, but there is no such file in this folder{beside}")


def doubts(config: Mapping[str, Any], name: str, *, needs_program: bool) -> tuple[str, ...]:
    """What may not come out as it was meant with a sweep that was created elsewhere: its server takes almost anything.

    Args:
        config: its configuration, as its server tells it.
        name: what it is called in messages.
        needs_program: whether its runs execute what the configuration says.
    """
    said = sweep_configs.remarks(config)
    missing = sweep_commands.missing_script(config) if needs_program else None
    found = [*said.errors, *said.warnings, *([f"it runs {missing}, which is not in this folder"] if missing else [])]
    return tuple(f"{name}: {doubt}" for doubt in found)


def grid_size(config: Mapping[str, Any]) -> int | None:
    """How many runs a sweep configuration asks for; `None` if it names no bound."""
    cap = config.get("run_cap")
    bounds = [int(cap)] if isinstance(cap, int) else []
    if config.get("method") == "grid":
        size = _combinations(config.get("parameters") or {})
        bounds += [size] if size is not None else []
    return min(bounds, default=None)


def _combinations(parameters: Mapping[str, Any]) -> int | None:
    total = 1
    for entry in parameters.values():
        if not isinstance(entry, dict):
            return None
        if isinstance(entry.get("values"), list):
            total *= len(entry["values"])
        elif isinstance(entry.get("parameters"), dict):
            inner = _combinations(entry["parameters"])
            if inner is None:
                return None
            total *= inner
        elif "value" not in entry:
            return None  # a range: W&B's grid over integers; the server will tell
    return total
