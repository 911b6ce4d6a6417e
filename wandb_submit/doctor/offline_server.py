"""The offline server of this folder, if it has one: whether it can keep what runs send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wandb_submit.doctor.finding import Finding, Verdict
from wandb_submit.errors import WandbSubmitError
from wandb_submit.server.control import lifecycle
from wandb_submit.store.paths import server_dir
from wandb_submit.system.files import try_to_write


def findings() -> Iterator[Finding]:
    """Checks that its data folder can be written to, and that it answers and stores if it runs."""
    folder = server_dir()
    if not folder.exists():
        return
    try:
        trouble = _trouble(folder)
    except WandbSubmitError as error:
        trouble = str(error)
    if trouble is None:
        yield Finding(topic="offline server", words=f"its data is in {folder}")
    else:
        remedy = "make room there, or name another folder in WANDB_SUBMIT_DIR"
        yield Finding(topic="offline server", words=trouble, verdict=Verdict.FAILED, remedy=remedy)


def _trouble(folder: Path) -> str | None:
    running = lifecycle.status(folder)
    if running is not None:
        return lifecycle.storage_trouble(running)
    error = try_to_write(folder)
    return None if error is None else f"{folder} cannot be written: {error.strerror}"
