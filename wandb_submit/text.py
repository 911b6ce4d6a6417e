"""How numbers of things, lengths of time and ends of runs are told, wherever people see them."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable

_SHELLS = 128  # what a shell adds to the number of the signal that killed a program


def counted(number: int, noun: str) -> str:
    """A number of things: `1 run`, `2 runs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(seconds: float) -> str:
    """A length of time in as few words as tell it: `8s`, `3m10s`, `2h05m`, `3d04h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def exit_words(
    exit_code: int, stop_reason: str | None, *, out_of_memory: bool = False, seconds: float | None = None
) -> str:
    """How a run ended, in words, and after how many seconds if that is told."""
    after = "" if seconds is None else f" after {seconds:.1f} s"
    if stop_reason is not None:
        return f"stopped{after}: {stop_reason}"
    if exit_code == 0:
        return f"finished{after}"
    if exit_code < 0:
        words = f"killed by signal {-exit_code} ({signal_name(-exit_code)})"
    elif _SHELLS < exit_code <= _SHELLS + signal.SIGSYS:
        words = f"failed with exit status {exit_code} ({_SHELLS} + {signal_name(exit_code - _SHELLS)})"
    else:
        words = f"failed with exit status {exit_code}"
    return f"{words}{after}: out of memory (see --mem)" if out_of_memory else f"{words}{after}"


def signal_name(number: int) -> str:
    """A signal's name: `SIGKILL`; those without one are counted from the first real-time signal, as `kill -l` does."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}" if number > signal.SIGRTMIN else f"signal {number}"


def alike(sentences: Iterable[tuple[str, str]]) -> list[tuple[list[str], str]]:
    """Groups names whose sentences are the same but for numbers; each group's sentence is the first one's.

    Args:
        sentences: names, each with what is said of it.
    """
    groups: dict[str, tuple[list[str], str]] = {}
    for name, sentence in sentences:
        groups.setdefault(re.sub(r"\d+", "0", sentence), ([], sentence))[0].append(name)
    return list(groups.values())


def uninitialized_words(runs: int) -> str:
    """What is wrong with runs that ended well without `wandb.init()`: nothing failed here, and yet at their server."""
    them = "it" if runs == 1 else "them"
    return (
        f"{counted(runs, 'run')} ended well without a `wandb.init()` that reached the sweep, whose server will show "
        f"{them} as failed or crashed: call `wandb.init()` in the script, and change neither its mode nor the WANDB_… "
        "variables that the run is started with"
    )
