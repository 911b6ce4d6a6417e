"""The machine that this is typed on, as `--executor local` would use it."""

from __future__ import annotations

from collections.abc import Iterator

from wandb_submit.devices import usable_cores, visible_gpus
from wandb_submit.doctor.finding import Finding


def findings() -> Iterator[Finding]:
    """Tells what local agents would have."""
    gpus = [f"{gpu.token} ({gpu.model})" if gpu.model else gpu.token for gpu in visible_gpus()]
    yield Finding(topic="this machine", words=f"{len(usable_cores())} cores, GPUs: {', '.join(gpus) or 'none'}")
