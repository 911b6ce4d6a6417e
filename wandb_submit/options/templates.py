"""Site profiles: YAML files that hold a cluster's or a project's usual options, so that nobody types them.

A template is a mapping of the command line's long options without their dashes (`gpus-per-task: 1`); `sbatch:` and
`env:` are mappings, `setup:` and `teardown:` lists of shell commands. Several may be named; later ones win, and what
is on the command line wins over all.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from wandb_submit.errors import ConfigError, NotFoundError
from wandb_submit.options import values
from wandb_submit.system.files import typed_path
from wandb_submit.system.mappings import read_mapping


def search_path() -> list[Path]:
    """The folders that a template's name is looked up in, first to last."""
    named = os.environ.get("WANDB_SUBMIT_TEMPLATES", "")
    config_home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return [
        *(typed_path(folder) for folder in named.split(os.pathsep) if folder),
        config_home / "wandb-submit" / "templates",
        packaged(),
    ]


def packaged() -> Path:
    """The folder of the templates that come with this program."""
    package = Path(__file__).parents[1]
    installed = package / "slurm_templates"
    return installed if installed.is_dir() else package.parent / "slurm_templates"  # a checkout


def asked_for(options: Mapping[str, object]) -> tuple[str, ...]:
    """The templates that options name, first to last."""
    given = options.get("templates")
    return () if given is None else values.texts("--template", given)


def available() -> dict[str, Path]:
    """All templates that can be named, by name; of two with one name the first on the search path counts."""
    found: dict[str, Path] = {}
    for folder in search_path():
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def load(name: str) -> dict[str, object]:
    """Reads a template by name or by file path.

    Raises:
        NotFoundError: if there is none.
        ConfigError: if the file is not a YAML mapping.
    """
    # As text: YAML 1.1 would read `time: 4:00:00` as the number 14400.
    return read_mapping(find(name), "template", loader=yaml.BaseLoader)


def find(name: str) -> Path:
    """The file of a template that is named by its name or by its path.

    Raises:
        NotFoundError: if there is none.
    """
    by_name = available()
    is_path = name.endswith((".yaml", ".yml")) or "/" in name
    path = typed_path(name) if is_path else by_name.get(name)
    if path is None or not os.path.isfile(path):  # noqa: PTH113 Path.is_file raises on a long text
        near = difflib.get_close_matches(name, by_name, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(by_name)) or 'none'}"
        raise NotFoundError(f"no template {name!r}; {hint}")
    return path


def text(path: Path) -> str:
    """A template's file as it is, with its comments.

    Raises:
        ConfigError: if it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the template file {path}: {error}") from error


def description(path: Path) -> str:
    """What a template's first comment says it is for; empty where it says nothing, or cannot be read."""
    try:
        first, _, _ = text(path).partition("\n")
    except ConfigError:  # the others are listed all the same; --template and `check` will tell
        return ""
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def merge(layers: Iterable[Mapping[str, object]]) -> dict[str, object]:
    """Lays templates over one another: later values win; mappings such as `sbatch` are joined, and so are lists."""
    merged: dict[str, object] = {}
    for layer in layers:
        for key, value in layer.items():
            before = merged.get(key)
            if isinstance(before, dict) and isinstance(value, dict):
                merged[key] = {**before, **value}
            elif isinstance(before, list) and isinstance(value, list):
                merged[key] = [*before, *value]
            else:
                merged[key] = value
    return merged
