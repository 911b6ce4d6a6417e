"""What a run's log tells of why the run failed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TAIL = 65536  # bytes at a log's end; tracebacks are shorter
_BEGINS = "Traceback (most recent call last):"
_CHAINED = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
_WANDBS = "wandb:"  # how the lines begin that it prints when a program ends, behind the program's own last words
_MESSAGE = (
    20  # lines of an exception's message; what has more lines behind a traceback was printed by a run that went on
)


@dataclass(frozen=True, kw_only=True, slots=True)
class LastWords:
    """The end of a run's log.

    Attributes:
        line: the exception that it ended with, or else its last line; empty if it printed nothing.
        traceback: the exception's whole traceback, with those that led to it; empty if it ended with none.
    """

    line: str
    traceback: str = ""

    @classmethod
    def read(cls, log: Path) -> LastWords:
        """Reads them; those of a log that is not there are empty."""
        try:
            with log.open("rb") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
                text = file.read().decode(errors="replace")
        except OSError:
            return cls(line="")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith(_WANDBS)]
        if _BEGINS in lines:
            begin = len(lines) - 1 - lines[::-1].index(_BEGINS)
            end = next((at for at in range(begin + 1, len(lines)) if not lines[at].startswith(" ")), len(lines))
            if end < len(lines) <= end + _MESSAGE:
                while begin > 0 and lines[begin - 1] in _CHAINED and _BEGINS in lines[: begin - 1]:
                    begin = begin - 1 - lines[begin - 1 :: -1].index(_BEGINS)
                return cls(line=lines[end], traceback="\n".join(lines[begin:]))
        return cls(line=lines[-1] if lines else "")
