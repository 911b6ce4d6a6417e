"""The names of sweeps: ids, paths and URLs; and what else people type where a sweep is wanted."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from wandb_submit.errors import ConfigError, NotFoundError

FORMS = "an id, project/id, entity/project/id, the sweep's URL, or a sweep YAML file"

_HOSTS = ("wandb.ai", "www.wandb.ai", "api.wandb.ai", "app.wandb.ai")
_OTHER_PAGES = {
    "runs": "a run",
    "sweeps": "a list of sweeps",
    "reports": "a report",
    "artifacts": "an artifact",
    "groups": "a group of runs",
}
_OTHER_FILES = {
    ".py": "a Python program: name a sweep YAML file whose `program:` is {}",
    ".ipynb": "a notebook: call `wandb_submit.submit()` in it, or name a sweep YAML file",
    ".sh": "a shell script: name a sweep YAML file whose `command:` runs {}",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepName:
    """A sweep as it was named; what was left out is the user's default."""

    id: str
    project: str | None = None
    entity: str | None = None
    host: str | None = None


def is_id(text: str) -> bool:
    """Whether W&B's server or ours would make such an id; a word, a file or a folder may look like one."""
    return re.fullmatch(r"[a-z0-9]{8}", text.rpartition("/")[2]) is not None


def read(text: str) -> SweepName:
    """Reads an id, a path or a URL.

    Raises:
        ConfigError: if it is none of them, or clearly something else.
        NotFoundError: if it is rather the name of a file, which is not there.
    """
    if url := _as_url(text):
        return _read_url(url)
    if os.path.isdir(text) and not is_id(text):  # noqa: PTH112 Path.is_dir raises on a long text
        inside = next((f", such as {path}" for path in sorted(Path(text).glob("*.y*ml"))), "")
        raise ConfigError(f"{text!r} does not name a sweep, but a folder: give {FORMS}{inside}")
    parts = text.split("/")
    if "." in parts[-1].strip(".") or (not is_id(text) and near_file(text)):
        raise no_file(text)
    if len(parts) > 3 or not all(re.fullmatch(r"(?!\.+$)[\w.\- ]+", part) for part in parts):
        raise ConfigError(f"{text!r} does not name a sweep: give {FORMS}")
    entity, project, sweep_id = [None] * (3 - len(parts)) + parts
    return SweepName(id=str(sweep_id), project=project, entity=entity)


def refuse_other_file(path: Path) -> None:
    """Refuses a file that by its name is certainly no sweep file, whether it is there or not.

    Raises:
        ConfigError: if it is one.
    """
    if words := _OTHER_FILES.get(path.suffix.lower()):
        raise ConfigError(f"{path} is not a sweep, but {words.format(path.name)}")


def no_file(path: str | Path) -> NotFoundError:
    """The error for a sweep file that is not there."""
    near = near_file(path)
    return NotFoundError(f"no sweep file {path}" + (f": did you mean {near}?" if near else ""))


def near_file(name: str | Path) -> Path | None:
    """A YAML file of nearly the same name, or of the same one but for its ending."""
    path = Path(name)
    if any(len(part) > 255 for part in path.parts):
        return None
    there = {other.name.lower(): other for other in sorted(path.parent.glob("*.y*ml"), reverse=True)}
    same = [other for other in there.values() if other.stem.lower() == path.stem.lower()]
    near = difflib.get_close_matches(path.name.lower(), there, n=1, cutoff=0.85)
    return same[-1] if same else there[near[0]] if near else None


def _as_url(text: str) -> str | None:
    """An address, which may have been copied without its `https://`."""
    host, _, rest = text.partition("/")
    bare = rest and (host.lower() in _HOSTS or ":" in host or ("." in host and "/sweeps/" in rest))
    return text if "://" in text else f"https://{text}" if bare else None


def _read_url(text: str) -> SweepName:
    """Reads `https://HOST/ENTITY/PROJECT/sweeps/ID`, with whatever the browser put behind it."""
    url = urlsplit(text)
    parts = [unquote(part) for part in url.path.split("/") if part]
    if "sweeps" in parts:
        place = len(parts) - 1 - parts[::-1].index("sweeps")  # a project may be called so, too
        if place >= 2 and len(parts) > place + 1:
            return SweepName(id=parts[place + 1], project=parts[place - 1], entity=parts[place - 2], host=url.netloc)
    page = _OTHER_PAGES.get(parts[2]) if len(parts) > 2 else "a project" if len(parts) == 2 else None
    raise ConfigError(
        f"{text} is not a sweep's URL{f', but that of {page}' if page else ''}: "
        "a sweep's ends in /ENTITY/PROJECT/sweeps/ID"
    )
