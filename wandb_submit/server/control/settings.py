"""What the person who starts the server may choose."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from wandb_submit.errors import ConfigError

# The file of the data folder that holds everything but what was uploaded.
DATABASE = "server.sqlite3"
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """What is asked for at one start; the folder remembers it, and what is None stays as it was last time.

    Attributes:
        host: as in `Settings`.
        host_if_new: the address to listen on if none was ever asked for.
        port: as in `Settings`; one that is only remembered gives way if somebody else has it.
        seed: as in `Settings`.
        crash_after_s: as in `Settings`.
        gone_grace_s: as in `Settings`.
        stop_grace_s: as in `Settings`.

    Raises:
        ConfigError: if a value makes no sense.
    """

    host: str | None = None
    host_if_new: str | None = None
    port: int | None = None
    seed: int | None = None
    crash_after_s: float | None = None
    gone_grace_s: float | None = None
    stop_grace_s: float | None = None

    def __post_init__(self) -> None:
        if self.port is not None and not 0 < self.port < 65536:
            raise ConfigError(f"--port {self.port} is not a port: it is a number from 1 to 65535")
        if self.host is not None and not self.host.strip():
            raise ConfigError("--host is empty: name an address, a host's name, or 0.0.0.0 for all of this machine's")
        for name in ("crash_after_s", "gone_grace_s", "stop_grace_s"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{_option(name)} {value} is not a number of seconds")

    def given(self) -> dict[str, str]:
        """What was asked for, by its name, as text."""
        given = ((one.name, getattr(self, one.name)) for one in fields(self))
        return {name: _text(value) for name, value in given if value is not None}

    def arguments(self) -> Iterator[str]:
        """The options of `python -m wandb_submit.server` that ask for it."""
        for name, value in self.given().items():
            yield from (_option(name), value)

    def disagreements(self, others: Mapping[str, str]) -> list[str]:
        """The options that ask for something else than what a running server has."""
        return [
            f"{_option(name)} {others.get(name)} and not {value}"
            for name, value in self.given().items()
            if name != "host_if_new" and others.get(name) != value
        ]


def _text(value: str | float) -> str:
    """A value as it is written on a command line; 77 and 77.0 seconds are the same."""
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _option(name: str) -> str:
    return "--" + name.removesuffix("_s").replace("_", "-")
