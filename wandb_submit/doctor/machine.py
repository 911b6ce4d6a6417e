"""The machine that this is typed on, as `--executor local` would use it."""

from __future__ import annotations

from collections.abc import Iterator

from wandb_submit.devices import usable_cores, visible_gpus
from wandb_submit.devices.strangers import watch_for
from wandb_submit.doctor.finding import Finding
from wandb_submit.text import counted


def findings() -> Iterator[Finding]:
    """Tells what local agents would have."""
    visible = visible_gpus()
    with watch_for(visible.gpus, visible.variable)() as look:
        gpus = [f"{gpu.words}, busy with {who}" if (who := look(gpu)) else gpu.words for gpu in visible.gpus]
    yield Finding(
        topic="this machine", words=f"{counted(len(usable_cores()), 'core')}, GPUs: {'; '.join(gpus) or 'none'}"
    )
