"""What clients have logged and configured, as plain names and values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from wandb_submit.metrics import finite

# How deep nested values get names of their own; what is deeper is shown as JSON.
_MAX_DEPTH = 4


def config_values(text: str) -> dict[str, object]:
    """A run's config (`{"lr": {"value": 0.1}}`) by parameter, nested ones with their levels parted by dots."""
    found: dict[str, object] = {}
    for name, entry in _object(text).items():
        if name != "_wandb":
            value = entry["value"] if isinstance(entry, dict) and "value" in entry else entry
            found.update(_flat(name, value))
    return found


def summary_values(text: str) -> dict[str, object]:
    """A run's summary by metric, nested ones with their levels parted by dots, the client's own left out."""
    found: dict[str, object] = {}
    for name, value in _object(text).items():
        if not name.startswith("_"):
            found.update(_flat(name, value))
    return found


def runtime(summary: str) -> float | None:
    """How long the client says that the run has been going, in seconds."""
    return finite(_object(summary).get("_runtime"))


def _object(text: str) -> Mapping[str, object]:
    value = json.loads(text)
    return value if isinstance(value, dict) else {}


def _flat(name: str, value: object, depth: int = 1) -> Iterator[tuple[str, object]]:
    # W&B marks media and histograms by `_type`: they are one value.
    if isinstance(value, dict) and value and "_type" not in value and depth < _MAX_DEPTH:
        for key, nested in value.items():
            yield from _flat(f"{name}.{key}", nested, depth + 1)
    else:
        yield name, value
