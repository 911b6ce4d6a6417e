"""When trials began and ended, taken down in the same way whoever starts them.

The sweep's `command` is a bash that notes the time (a builtin of bash, without a process), runs the trial, and notes
the time again. Its parent is the agent: that tells whose trial it was.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_WRAPPER = 'began=$EPOCHREALTIME; "${@:2}"; echo "$PPID $$ $began $EPOCHREALTIME" >>"$1"'


def command(stamps: Path, *trial: str) -> list[str]:
    """A sweep's `command` for a trial whose times are to be noted in a file."""
    return ["bash", "-c", _WRAPPER, "trial", str(stamps), *trial]


def command_that_tells_its_start(stamps: Path, *trial: str) -> list[str]:
    """The same for a trial that may not end: noted is its start alone."""
    return ["bash", "-c", 'echo "$PPID $$ $EPOCHREALTIME 0" >>"$1"; exec "${@:2}"', "trial", str(stamps), *trial]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """One trial: its agent's process, its own, and when it began and ended, in seconds since the epoch."""

    agent: int
    pid: int
    began: float
    ended: float


def read(stamps: Path) -> list[Stamp]:
    """All trials noted so far, in the order that they began."""
    if not stamps.exists():
        return []
    rows = [line.replace(",", ".").split() for line in stamps.read_text().splitlines()]
    found = [Stamp(agent=int(row[0]), pid=int(row[1]), began=float(row[2]), ended=float(row[3])) for row in rows]
    return sorted(found, key=lambda stamp: stamp.began)


def by_agent(found: Sequence[Stamp]) -> list[list[Stamp]]:
    """The trials of each agent."""
    agents: dict[int, list[Stamp]] = defaultdict(list)
    for stamp in found:
        agents[stamp.agent].append(stamp)
    return list(agents.values())


def idle_s(found: Sequence[Stamp]) -> list[float]:
    """How long each agent stood without a trial between two of its trials."""
    return [later.began - earlier.ended for agent in by_agent(found) for earlier, later in itertools.pairwise(agent)]


def over_own_time(found: Sequence[Stamp], typed: float) -> float:
    """Wall time from the command to an agent's last trial's end, over the sum of its trials' own durations.

    The mean over the agents.
    """
    return statistics.mean(
        (agent[-1].ended - typed) / sum(stamp.ended - stamp.began for stamp in agent) for agent in by_agent(found)
    )


def sweep_config(name: str, runs: int, command: Sequence[str]) -> str:
    """A grid of so many runs, as a sweep file's text (JSON is YAML)."""
    return json.dumps(
        {
            "name": name,
            "project": "benchmark",
            "method": "grid",
            "parameters": {"number": {"values": list(range(runs))}},
            "command": list(command),
        }
    )
