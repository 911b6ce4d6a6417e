"""What the workstation's queue costs, beside hand-started agents and submitit's own local executor running ours.

- memory: of an agent whose trial sleeps, without the trial, the queue's own processes shared out among the agents: with
  two of them, and with eight, as on a node full of GPUs;
- start: from the command typed to the first trial's first line, the server already running;
- burst: array tasks of a trial that ends at once: tasks per second, from the command to the last trial's end;
- rest: what the queue's processes compute and how often they wake up while all trials sleep.

Who wins by how much is printed with what is wanted; the exit status is 1 if that is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent import stamps
from agent.sides import PlainSubmitit, Side, Submission, Terminals, memory_kb
from agents import Bench, Row, bench, show, start, wait_for

_FULL = 8  # agents of a node full of GPUs
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def rest(at: Bench, side: Side, *, agents: int, watch_s: float) -> dict[str, float]:
    """Memory of each agent while its trial sleeps; for our queue, its processor time and waking up, too."""
    noted = at.folder / f"rest-{side.name}-{agents}"
    sweep = at.sweep("rest", agents, stamps.command_that_tells_its_start(noted, "sleep", "100000"))
    side.start(sweep, agents=agents)
    wait_for(lambda: len(stamps.read(noted)) == agents, "the trials run", 120)
    time.sleep(10)  # what belongs to the start is over
    trials = {stamp.pid for stamp in stamps.read(noted)}
    memory = memory_kb([pid for pid in side.processes() if pid not in trials])
    measured = {f"memory_mb_{agents}": memory / 1024 / agents}
    if isinstance(side, Submission):
        queue = queue_of(side.processes(), {stamp.agent for stamp in stamps.read(noted)})
        before, began = used(queue), time.monotonic()
        time.sleep(watch_s)
        (cpu_s, wakes), watched_s = used(queue), time.monotonic() - began
        measured |= {
            "cpu_percent": (cpu_s - before[0]) / watched_s * 100,
            "wakes_per_min": (wakes - before[1]) / watched_s * 60,
        }
    side.stop()
    return measured


def queue_of(processes: Sequence[int], agents: set[int]) -> list[int]:
    """The scheduler and its keeper: of our processes those that are no agents."""
    module = b"wandb_submit.executors.local.keeper"
    found = [pid for pid in processes if module in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    return [pid for pid in found if pid not in agents]


def used(pids: Sequence[int]) -> tuple[float, int]:
    """Processor time in seconds, and how often they gave the processor up of their own will, to wait (proc(5))."""
    ticks, switches = 0, 0
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(stat[11]) + int(stat[12])
        status = Path(f"/proc/{pid}/status").read_text()
        switches += next(int(line.split()[1]) for line in status.splitlines() if line.startswith("voluntary_ctxt"))
    return ticks / _TICKS_PER_S, switches


def burst(at: Bench, side: Side, *, tasks: int, times: int) -> float:
    """Array tasks per second, each with one trial that ends at once; the median."""
    rates = []
    for number in range(times):
        noted = at.folder / f"burst-{side.name}-{number}"
        sweep = at.sweep("burst", tasks, stamps.command(noted, "true"))
        typed = time.time()
        side.start(sweep, agents=tasks, count=1)
        wait_for(lambda: len(stamps.read(noted)) == tasks, "all trials have run", 300)  # noqa: B023 called at once
        rates.append(tasks / (max(stamp.ended for stamp in stamps.read(noted)) - typed))
        side.stop()
    return statistics.median(rates)


def rows(measured: Mapping[str, Mapping[str, float]], agents: Sequence[int]) -> list[Row]:
    """Both tables' lines: beside hand-started agents, then beside submitit's executor."""
    hand, plain, ours = (measured[side.name] for side in (Terminals, PlainSubmitit, Submission))
    names = (Terminals.name, PlainSubmitit.name)
    memory = [(number, f"memory_mb_{number}") for number in agents]
    return [
        # A fifth is wanted of a full node: what the agents share is little for each only where they are many.
        *(
            Row(
                name=f"memory of one of {number} idle agents, beside {name}",
                unit="MB",
                theirs=theirs[key],
                ours=ours[key],
                wanted="less" if share == 1 else f"≤ 1/{share}",
                most=theirs[key] / share,
            )
            for name, theirs, full in ((names[0], hand, 5), (names[1], plain, 1))
            for number, key in memory
            for share in [full if number >= _FULL else 1]
        ),
        *(
            Row(
                name=f"command typed to first trial, beside {name}",
                unit="s",
                theirs=theirs["start_s"],
                ours=ours["start_s"],
                wanted="no more",
                most=theirs["start_s"],
            )
            for name, theirs in zip(names, (hand, plain), strict=True)
        ),
        Row(
            name=f"one of a burst of tasks, beside {names[1]}",
            unit="ms",
            theirs=1000 / plain["tasks_per_s"],
            ours=1000 / ours["tasks_per_s"],
            wanted="≤ 50 ms",
            most=50,
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--agents", type=int, nargs="+", default=[2, _FULL], help="for the memory; default: 2 8")
    parser.add_argument("--tasks", type=int, default=64, help="of a burst; default: 64")
    parser.add_argument("--times", type=int, default=3, help="how often start and burst are timed; default: 3")
    parser.add_argument("--watch", type=float, default=30.0, metavar="S", help="watch the queue so long; default: 30")
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")
    given = parser.parse_args()
    measured: dict[str, dict[str, float]] = {}
    with bench() as at:
        for side in (
            Terminals(at.folder, at.env),
            PlainSubmitit(at.folder, at.env),
            Submission(at.folder, at.env),
        ):
            figures = {"start_s": start(at, side, given.times)}
            for number in given.agents:
                figures |= rest(at, side, agents=number, watch_s=given.watch)
            if not isinstance(side, Terminals):
                figures["tasks_per_s"] = burst(at, side, tasks=given.tasks, times=given.times)
            measured[side.name] = figures
            print(f"{side.name}: done", file=sys.stderr)
    table = rows(measured, given.agents)
    ours = measured[Submission.name]
    at_rest = ours["cpu_percent"] < 0.1
    if given.json:
        print(json.dumps({**measured, "met": {row.name: row.met for row in table} | {"at rest": at_rest}}))
    else:
        show(table, theirs="theirs")
        used_up = f"{ours['cpu_percent']:.2f} % of a core, {ours['wakes_per_min']:.1f} times a minute awake"
        print(f"the queue at rest: {used_up}; wanted: 0 %, {'met' if at_rest else 'MISSED'}")
    return 0 if at_rest and all(row.met for row in table) else 1


if __name__ == "__main__":
    sys.exit(main())
