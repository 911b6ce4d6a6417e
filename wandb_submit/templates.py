"""Site profiles: YAML files that hold a cluster's or a project's usual options, so that nobody types them.

A template is a mapping of the command line's long options without their dashes (`gpus-per-task: 1`), plus
`sbatch:`, a mapping of further sbatch options. Several may be named; later ones win, and what is on the command
line wins over all.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from wandb_submit.errors import ConfigError, NotFoundError


def search_path() -> list[Path]:
    """The folders that a template's name is looked up in, first to last."""
    package = Path(__file__).parent
    named = os.environ.get("WANDB_SUBMIT_TEMPLATES")
    config_home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return [
        *([Path(named).expanduser()] if named else []),
        config_home / "wandb-submit" / "templates",
        package / "slurm_templates",  # an installed package
        package.parent / "slurm_templates",  # a checkout
    ]


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
    by_name = available()
    path = Path(name) if name.endswith((".yaml", ".yml")) else by_name.get(name)
    if path is None or not path.is_file():
        near = difflib.get_close_matches(name, by_name, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(by_name)) or 'none'}"
        raise NotFoundError(f"no template {name!r}; {hint}")
    # As text: YAML 1.1 would read `time: 4:00:00` as the number 14400.
    return read_mapping(path, "template", loader=yaml.BaseLoader)


def read_mapping(
    path: Path, what: str, loader: type[yaml.SafeLoader | yaml.BaseLoader] = yaml.SafeLoader
) -> dict[str, object]:
    """Reads a YAML file that must hold a mapping with text keys.

    Args:
        path: the file.
        what: what the file is, for messages.
        loader: PyYAML's `SafeLoader`, or its `BaseLoader` for values as text.

    Raises:
        NotFoundError: if there is no such file.
        ConfigError: if it cannot be read, or is something else; the text says where.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), loader)  # noqa: S506 both loaders are safe
    except FileNotFoundError as error:
        raise NotFoundError(f"no {what} file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the {what} file {path}: {error}") from error
    except (yaml.YAMLError, ValueError) as error:  # a ValueError is an impossible date
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"the {what} file {path}{where} is not valid YAML: {problem}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"the {what} file {path} holds {_kind(content)}, not a mapping of options")
    return {str(key): value for key, value in content.items()}


def merge(layers: Iterable[Mapping[str, object]]) -> dict[str, object]:
    """Lays templates over one another: later values win, the `sbatch` mappings are joined."""
    merged: dict[str, object] = {}
    for layer in layers:
        for key, value in layer.items():
            before = merged.get(key)
            merged[key] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def _kind(content: object) -> str:
    names = {type(None): "nothing", list: "a list", str: "a text"}
    return names.get(type(content), f"a {type(content).__name__}")
