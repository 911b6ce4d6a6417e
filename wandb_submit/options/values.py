"""Readers of options' values: from the text of a flag or a template, or a value from Python, to a checked value.

Each takes the option as people write it (`--mem`) and the value, and raises a `ConfigError` that names both, says what
is wrong and what to write instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from wandb_submit.errors import ConfigError

if TYPE_CHECKING:
    from wandb_submit.spec import ArraySpec

AGENTS = ("native", "wandb")
_UNLIMITED = ("UNLIMITED", "INFINITE", "-1")  # as sbatch reads a time limit
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SMALLER = {"T": "G", "G": "M", "M": "K"}  # a unit, and the one that it has 1,024 of


def text(option: str, value: object) -> str:
    """A text on one line."""
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip().isprintable():
        raise ConfigError(f"{option} {value!r} is not a text on one line")
    return str(value).strip()


def texts(option: str, value: object) -> tuple[str, ...]:
    """Several texts, or one."""
    return tuple(str(one) for one in value) if isinstance(value, list | tuple) else (str(value),)


def number(minimum: int) -> Callable[[str, object], int]:
    """Makes a reader of whole numbers from a minimum on."""

    def read(option: str, value: object) -> int:
        if isinstance(value, bool) or not str(value).strip().isdecimal() or int(str(value)) < minimum:
            raise ConfigError(f"{option} {value!r} is not a whole number of at least {minimum}")
        return int(str(value))

    return read


def yes_or_no(option: str, value: object) -> bool:
    """True or false, as YAML and Python write them."""
    if str(value).lower() not in ("true", "false"):
        raise ConfigError(f"{option} {value!r} is neither true nor false")
    return str(value).lower() == "true"


def agent(option: str, value: object) -> str:
    """Whose agent."""
    if value not in AGENTS:
        raise ConfigError(f"{option} {value!r} is none of {', '.join(AGENTS)}")
    return str(value)


def modules(option: str, value: object) -> tuple[str, ...]:
    """Modules' names: a list, or a text with commas between them."""
    names = [name.strip() for part in texts(option, value) for name in part.split(",") if name.strip()]
    if odd := [name for name in names if not all(part.isidentifier() for part in name.split("."))]:
        raise ConfigError(f"{option} {', '.join(map(repr, odd))}: not a module's name, such as torch or torch.nn")
    return tuple(names)


def array(option: str, value: object) -> ArraySpec:
    """A number of array tasks, and how many at a time."""
    from wandb_submit.spec import ArraySpec  # here, for `--help` needs nothing of it

    return ArraySpec.parse(str(value))


def gpus(option: str, value: object) -> tuple[str | None, int]:
    """GPUs in sbatch's format, `2` or `a100:2`: their type, if one is named, and how many.

    A type alone is not taken for one GPU of it, as sbatch does: `--gpus-per-task 8x` would be one GPU.
    """
    match = re.fullmatch(r"(?:([A-Za-z][\w.-]*):)?(\d+)", str(value).strip())
    if not match:
        raise ConfigError(f"{option} {value!r} is not a number of GPUs: write 1, or with a type a100:1")
    return match[1], int(match[2])


def gpu_names(option: str, value: object) -> tuple[str, ...]:
    """Names of GPUs of this machine: indices, ranges of them, and UUIDs or their beginnings."""
    listed = ",".join(texts(option, value))
    names: list[str] = []
    for part in map(str.strip, listed.split(",")):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part)
        if match and int(match[1]) <= int(match[2] or match[1]):
            names += map(str, range(int(match[1]), int(match[2] or match[1]) + 1))
        elif re.fullmatch(r"(?:GPU|MIG)-[\w/-]+", part):
            names.append(part)
        else:
            raise ConfigError(
                f"{option} {listed!r} is no list of GPUs: write indices such as 0,2 or 0-3, or UUIDs as nvidia-smi -L "
                "shows them; how many each task gets is --gpus-per-task"
            )
    return tuple(names)


def memory(option: str, value: object) -> str:
    """A size of memory in sbatch's format (`16G`, `500M`, a plain number is megabytes), as it came."""
    size = str(value).strip()
    if re.fullmatch(r"\d+(?:[KMGT]B?)?", size, re.IGNORECASE | re.ASCII):
        return size
    meant = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MGT])i?B?", size, re.IGNORECASE | re.ASCII)
    right = f"{math.ceil(float(meant[1]) * 1024)}{_SMALLER[meant[2].upper()]}" if meant else ""
    if meant and float(meant[1]).is_integer():
        right = f"{int(float(meant[1]))}{meant[2].upper()}"
    raise ConfigError(f"{option} {value!r} is not a memory size: write {right or 'for example 16G or 500M'}")


def time_limit(option: str, value: object) -> tuple[str, int | None]:
    """A task's time limit: as it was written, and in minutes; `None` is no limit."""
    return str(value).strip(), limit_min(option, value)


def limit_min(option: str, value: object) -> int | None:
    """A time limit in minutes, as `time_min` reads it; `None` for `UNLIMITED`, `INFINITE` and -1."""
    return None if str(value).strip().upper() in _UNLIMITED else time_min(option, value)


def time_min(option: str, value: object) -> int:
    """A time in one of sbatch's formats, in minutes, rounded up.

    The formats are those of `sbatch --time` (https://slurm.schedmd.com/sbatch.html#OPT_time):
    `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours`, `days-hours:minutes` and
    `days-hours:minutes:seconds`.
    """
    written = str(value)
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", written.strip(), re.ASCII)
    if not match:
        meant = _in_sbatchs_words(written)
        raise ConfigError(f"{option} {written!r} is not a time: write {meant or 'minutes, H:MM:SS or D-HH:MM:SS'}")
    days, *clock = (int(group) if group else 0 for group in match.groups())
    hours, minutes, seconds = clock if match[1] or match[4] else (0, *clock[:2])
    # sbatch adds up whatever is typed; 25:61:00 is a mistake all the same.
    most = (23 if match[1] else math.inf, 59 if match[1] or match[4] else math.inf, 59)
    if any(amount > limit for amount, limit in zip((hours, minutes, seconds), most, strict=True)):
        right = _as_limit(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
        raise ConfigError(
            f"{option} {written!r}: there are 60 s in a minute, 60 min in an hour, 24 h in a day: is it {right}?"
        )
    seconds += ((days * 24 + hours) * 60 + minutes) * 60
    if seconds == 0:
        other = "UNLIMITED for no limit" if option == "--time" else "leave it out"
        raise ConfigError(f"{option} {written!r} is no time at all: name one above zero, or {other}")
    return -(-seconds // 60)


def seconds(option: str, value: object) -> float:
    """A number of seconds, or one with a unit: `90`, `90s`, `5m`, `1h`."""
    match = re.fullmatch(
        r"(\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)\s*(s|sec|m|min|h|d)?", str(value).strip().lower(), re.ASCII
    )
    amount = float(match[1]) * _UNITS_S[(match[2] or "s")[0]] if match else math.inf
    if amount == math.inf:
        raise ConfigError(
            f"{option} {value!r} is not a number of seconds: write 0 or more, or with a unit 90s, 5m or 1h"
        )
    return amount


def _in_sbatchs_words(text: str) -> str | None:
    """What somebody means who writes `90m` or `1h30m`, in sbatch's words; `None` if nobody can tell."""
    typed, part = text.strip().lower(), r"(\d+(?:\.\d+)?)\s*([dhms])[a-z]*\s*"
    if not re.fullmatch(f"({part})+", typed, re.ASCII):
        return None
    return _as_limit(round(sum(float(number) * _UNITS_S[unit] for number, unit in re.findall(part, typed, re.ASCII))))


def _as_limit(seconds: int) -> str:
    """A time limit as Slurm writes it: `1-02:30:00`, `4:00:00`."""
    days, rest = divmod(seconds, _UNITS_S["d"])
    clock = f"{rest % 3600 // 60:02}:{rest % 60:02}"
    return f"{days}-{rest // 3600:02}:{clock}" if days else f"{rest // 3600}:{clock}"
