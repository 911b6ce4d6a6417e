"""What the person who starts the server may choose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# What a person gets who names no entity. W&B calls the owner of projects an entity: a user or a team.
DEFAULT_ENTITY = "local"
# W&B's name for the project of a run or sweep that names none.
DEFAULT_PROJECT = "uncategorized"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """One server's settings.

    Attributes:
        data_dir: the folder that holds all that the server keeps.
        host: the address to listen on.
        port: the port to listen on; 0 means the one of last time, or any.
        seed: what random search starts from; None means the folder's own, drawn at its first start.
        crash_after_s: a run that says nothing for so long has crashed (W&B's clients speak every 30 s).
        gone_grace_s: a running run that its agent no longer reports has crashed if it says nothing for so long.
        stop_grace_s: a run that is asked to stop gets this long to obey before its agent is told to end it. The
            client looks for the request every 15 s and may send nothing for another 15 s.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 0
    seed: int | None = None
    crash_after_s: float = 300.0
    gone_grace_s: float = 15.0
    stop_grace_s: float = 32.0
