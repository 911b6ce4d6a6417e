"""YAML files that people write: a sweep's, a template's."""

from __future__ import annotations

from pathlib import Path

import yaml

from wandb_submit.errors import ConfigError, NotFoundError


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
    except UnicodeDecodeError as error:
        raise ConfigError(f"the {what} file {path} is not a text: name a YAML file") from error
    except OSError as error:
        raise ConfigError(f"cannot read the {what} file {path}: {error}") from error
    except (yaml.YAMLError, ValueError) as error:  # a ValueError is an impossible date
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"the {what} file {path}{where} is not valid YAML: {problem}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"the {what} file {path} holds {_kind(content)}, not a mapping of options")
    return {str(key): value for key, value in content.items()}


def _kind(content: object) -> str:
    names = {type(None): "nothing", list: "a list", str: "a text"}
    return names.get(type(content), f"a {type(content).__name__}")
