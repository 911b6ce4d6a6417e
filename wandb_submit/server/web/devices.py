"""What a run or an agent computes on, as far as the server has been told."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from wandb_submit.server.projects.file_paths import run_folder

# wandb's client uploads it with every run.
METADATA = "wandb-metadata.json"
# It is a few kB; whatever is larger is not read.
_MAX_SIZE = 1_000_000


def run_device(data_dir: Path, entity: str, project: str, run: str) -> str:
    """The machine's GPUs and cores from the metadata that a run has uploaded; empty if there is none."""
    path = run_folder(data_dir, entity, project, run) / METADATA
    try:
        if path.stat().st_size > _MAX_SIZE:
            return ""
        metadata = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return ""
    return described(metadata) if isinstance(metadata, dict) else ""


def described(metadata: dict[str, object]) -> str:
    """GPUs by name and number, then the cores."""
    gpus = metadata.get("gpu_nvidia") or metadata.get("gpu_amd")
    names = [str(gpu.get("name", "GPU")) for gpu in gpus if isinstance(gpu, dict)] if isinstance(gpus, list) else []
    count = metadata.get("gpu_count")
    if not names and isinstance(metadata.get("gpu"), str):
        names = [str(metadata["gpu"])] * (count if isinstance(count, int) and 0 < count < 1000 else 1)
    parts = [name if times == 1 else f"{times} x {name}" for name, times in Counter(names).items()]
    cpus = metadata.get("cpu_count_logical") or metadata.get("cpu_count")
    if isinstance(cpus, int):
        parts.append(f"{cpus} CPUs")
    return ", ".join(parts)
