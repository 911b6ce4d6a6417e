"""What the logs of runs and tasks tell of why they failed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from wandb_submit.store.client_noise import CHAINED, TRACEBACK, without_clients
from wandb_submit.text import exit_words

_TAIL = 65536  # bytes at a log's end; tracebacks are shorter
# Colours and cursor movements (ECMA-48), and other letters that no text has: a terminal or a page shows what is told.
_CODES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]|[\x00-\x08\x0e-\x1a\x7f]"
)
_SETUP = "wandb-submit: command "  # how our complaint of a setup's command begins: see `executors.activation`
_BASHS = re.compile(r"^.*?: line \d+: ")  # how bash begins what it says of a line of a script
_CAUSE = re.compile(
    r": line \d+: |error|not found|no such|fatal|cannot|could not|can't|unable|denied|unbound|unknown|invalid|failed",
    re.IGNORECASE,
)
# What a rank of a run says that has failed (`agent.runs.rank`), behind the number that srun labels its lines
# with, which it pads with spaces from ten ranks on.
RANK_ENDED = re.compile(
    r"(?P<label> *\d+: )wandb-submit: (?P<words>rank \d+ on (?P<why>.*)ended with status (?P<status>-?\d+))"
)
_RAISED = 1  # what Python exits with when nobody has caught an exception
_MESSAGE = 20  # lines of an exception's message, at most


@dataclass(frozen=True, kw_only=True, slots=True)
class LastWords:
    """The end of a run's log.

    Attributes:
        line: the exception that it ended with, or else its last line; empty if the program printed nothing.
        traceback: the exception's whole traceback, with those that led to it and what may be the rest of a long
            message; empty if it ended with none.
    """

    line: str
    traceback: str = ""

    @classmethod
    def read(cls, log: Path, exit_code: int | None) -> LastWords:
        """Reads them; those of a log that is not there are empty.

        Behind a traceback there may be much else: what a program has printed to a file waits in a buffer for its end.
        Of a run of several ranks it is the end of the first that failed, which ended the others.

        Args:
            log: the run's log.
            exit_code: how the run ended.
        """
        lines = without_clients(_of_one_rank(_last_lines(log)))
        if TRACEBACK in lines and exit_code == _RAISED:
            begin = len(lines) - 1 - lines[::-1].index(TRACEBACK)
            end = next((at for at in range(begin + 1, len(lines)) if not lines[at].startswith(" ")), len(lines))
            if end < len(lines):
                while begin > 0 and lines[begin - 1] in CHAINED and TRACEBACK in lines[: begin - 1]:
                    begin = begin - 1 - lines[begin - 1 :: -1].index(TRACEBACK)
                return cls(line=lines[end], traceback="\n".join(lines[begin : end + _MESSAGE]))
        return cls(line=lines[-1] if lines else "")

    def told(self, exit_code: int, *, out_of_memory: bool = False) -> str:
        """How a run failed, in words, with its last ones.

        Args:
            exit_code: how it ended; not well.
            out_of_memory: whether its memory was used up.
        """
        end = exit_words(exit_code, None, out_of_memory=out_of_memory)
        if not self.line:
            return end
        if exit_code < 0 or out_of_memory:
            return f"{end}; its last line: {self.line}"
        return f"failed: {self.line}" if exit_code == _RAISED else f"{end}: {self.line}"


def failed_setup(log: Path) -> str:
    """Which command of its setup a task ended with, and by what was said first why; empty if with none.

    Args:
        log: what the task has written.
    """
    lines = _last_lines(log)
    at = next((at for at in reversed(range(len(lines))) if lines[at].startswith(_SETUP)), None)
    if at is None:
        return ""
    return ": ".join([lines[at].removeprefix("wandb-submit: "), *_first_cause(lines[:at])])


def _first_cause(lines: list[str]) -> list[str]:
    """The first line that tells of an error, with the next one if it ends with a colon; else the last line."""
    if TRACEBACK in lines:
        begin = lines.index(TRACEBACK)
        return next(([line] for line in lines[begin + 1 :] if not line.startswith(" ")), lines[-1:])
    at = next((at for at, line in enumerate(lines) if _CAUSE.search(line)), None)
    if at is None:
        return lines[-1:]
    more = lines[at + 1 : at + 2] if lines[at].rstrip().endswith(":") else []
    return [" ".join([_BASHS.sub("", lines[at]).rstrip(), *(line.strip() for line in more)])]


def _of_one_rank(lines: list[str]) -> list[str]:
    """What the first rank that failed has printed, or said of its end; all of it where there are no ranks."""
    for at, line in enumerate(lines):
        if end := RANK_ENDED.match(line):
            label = end["label"]
            return [own.removeprefix(label) for own in lines[:at] if own.startswith(label)] or [end["words"]]
    return lines


def _last_lines(log: Path) -> list[str]:
    """The lines at a log's end that are not blank, without codes; none of a log that is not there."""
    try:
        with log.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
            text = _CODES.sub("", file.read().decode(errors="replace"))
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()]
