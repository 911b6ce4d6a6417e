"""What warm trials save: from one trial's end to the first line of the next one behind its imports.

The trial imports numpy, pandas, scikit-learn and wandb (and torch, where that is installed), waits a moment and ends.
Compared are `wandb agent`, our agent with cold trials and with warm ones; and for functions, `wandb.agent(function=)`
and ours, from the function's last line to the next call's first. Beside them, what a bare fork takes, and the memory of
four cold trials, of four warm ones, and of these with the processes that they are forked from.

It needs what the trial imports: pip install pandas scikit-learn (and torch). Who wins by how much is printed with what
is wanted; the exit status is 1 if that is missed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import select
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from agent.sides import Side, Submission, Terminals, memory_kb
from agents import Bench, bench, wait_for
from rich.console import Console
from rich.table import Table

MODULES = [
    name for name in ("numpy", "pandas", "sklearn.linear_model", "wandb", "torch") if find_spec(name.partition(".")[0])
]
PROGRAM = """
import {modules}
import os, time
with open({noted!r}, "a") as file:
    file.write(f"{{os.getpid()}} {{time.time()}}\\n")
time.sleep({seconds})
"""
# The function's own time of its end is noted as well: `wandb.agent` calls it in one process again and again.
FUNCTION = """
import sys
def train():
    import {modules}
    import os, time
    with open({noted!r}, "a") as file:
        file.write(f"{{os.getpid()}} {{time.time()}}\\n")
    time.sleep({seconds})
    with open({noted!r} + "-ends", "a") as file:
        file.write(f"{{os.getpid()}} {{time.time()}}\\n")
if __name__ == "__main__":
    {start}
"""
_THEIRS = "import wandb; wandb.agent(sys.argv[1], function=train, count={runs})"
_OURS = (
    "import wandb_submit; wandb_submit.submit(sys.argv[1], function=train, array=1, count={runs}, "
    "executor='local', offline=True).wait()"
)
BARE_FORK = """
import {modules}
import os, time
took = []
for _ in range(20):
    reader, writer = os.pipe()
    began = time.monotonic()
    if os.fork() == 0:
        os.write(writer, str(time.monotonic() - began).encode())
        os._exit(0)
    took.append(float(os.read(reader, 100)))
    os.wait()
print(sorted(took)[10])
"""


def rows_of(noted: Path) -> list[tuple[int, float]]:
    """Processes and times, as trials have noted them."""
    if not noted.exists():
        return []
    return [(int(pid), float(at)) for pid, at in (line.split() for line in noted.read_text().splitlines())]


@dataclass
class Ends:
    """Sees from outside when the noted processes end, whoever started them."""

    noted: Path
    at: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        seen: set[int] = set()
        while True:
            for pid, _ in rows_of(self.noted):
                if pid not in seen:
                    seen.add(pid)
                    threading.Thread(target=self._wait, args=(os.pidfd_open(pid), pid), daemon=True).start()
            time.sleep(0.02)

    def _wait(self, descriptor: int, pid: int) -> None:
        select.select([descriptor], [], [])
        self.at[pid] = time.time()
        os.close(descriptor)


def gaps(begun: list[tuple[int, float]], ended: list[float]) -> Iterator[float]:
    """From each trial's end to the beginning of the next."""
    times = [at for _, at in begun]
    return (later - end for end, (_, later) in zip(ended, itertools.pairwise(times), strict=False))


def programs(at: Bench, side: Side, name: str, *, runs: int, seconds: float) -> float:
    """The median gap between the trials of one agent, in seconds."""
    noted = at.folder / f"noted-{name}"
    (at.folder / f"{name}.py").write_text(PROGRAM.format(modules=", ".join(MODULES), noted=str(noted), seconds=seconds))
    sweep = at.sweep(name, runs, ["python", f"{name}.py"])
    ends = Ends(noted)
    side.start(sweep, agents=1, count=runs)
    wait_for(lambda: len(ends.at) == runs, f"{name}: all trials have run", runs * (seconds + 60))
    side.stop()
    begun = rows_of(noted)
    return statistics.median(gaps(begun, [ends.at[pid] for pid, _ in begun]))


def functions(at: Bench, name: str, start: str, *, runs: int, seconds: float) -> float:
    """The same for calls of a function."""
    noted = at.folder / f"noted-{name}"
    script = FUNCTION.format(
        modules=", ".join(MODULES), noted=str(noted), seconds=seconds, start=start.format(runs=runs)
    )
    (at.folder / f"{name}.py").write_text(script)
    sweep = at.sweep(name, runs, ["python", f"{name}.py"])
    with (at.folder / "agents.log").open("ab") as log:
        subprocess.run(
            [sys.executable, f"{name}.py", sweep],
            cwd=at.folder,
            env={**os.environ, **at.env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
        )
    ended = [when for _, when in rows_of(Path(f"{noted}-ends"))]
    return statistics.median(gaps(rows_of(noted), ended))


def memory_mb(at: Bench, side: Side, name: str) -> tuple[float, float]:
    """What four trials at a time use, and that together with what they are forked from."""
    noted = at.folder / f"noted-{name}"
    (at.folder / f"{name}.py").write_text(PROGRAM.format(modules=", ".join(MODULES), noted=str(noted), seconds=100000))
    side.start(at.sweep(name, 4, ["python", f"{name}.py"]), agents=4)
    wait_for(lambda: len(rows_of(noted)) == 4, f"{name}: four trials run", 240)
    trials = {pid for pid, _ in rows_of(noted)}
    zygotes = [pid for pid in side.processes() if b"programs/zygote.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    alone, together = memory_kb(sorted(trials)), memory_kb(sorted(trials | set(zygotes)))
    side.stop()
    return alone / 1024, together / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=8, help="on each side; default: 8")
    parser.add_argument("--seconds", type=float, default=1.0, help="that each trial takes; default: 1")
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")
    given = parser.parse_args()
    if missing := {"numpy", "pandas", "sklearn"} - {name.partition(".")[0] for name in MODULES}:
        parser.error(f"not installed: {', '.join(sorted(missing))}: pip install pandas scikit-learn")
    often = {"runs": given.runs, "seconds": given.seconds}
    warm_options = ("--offline", "--preload", ",".join(MODULES))
    with bench() as at:
        stock, cold, warm = (
            Terminals(at.folder, at.env),
            Submission(at.folder, at.env),
            Submission(at.folder, at.env, options=warm_options),
        )
        measured = {
            "modules": MODULES,
            "bare_fork_s": float(
                subprocess.check_output([sys.executable, "-c", BARE_FORK.format(modules=", ".join(MODULES))])
            ),
            "stock_s": programs(at, stock, "stock", **often),
            "cold_s": programs(at, cold, "cold", **often),
            "warm_s": programs(at, warm, "warm", **often),
            "stock_function_s": functions(at, "stock-function", _THEIRS, **often),
            "warm_function_s": functions(at, "warm-function", _OURS, **often),
            "four_cold_mb": memory_mb(at, cold, "memory-cold")[0],
        }
        measured["four_warm_mb"], measured["four_warm_with_zygotes_mb"] = memory_mb(at, warm, "memory-warm")
    wanted = {
        "warm ≤ 1/20 of wandb agent": measured["warm_s"] <= measured["stock_s"] / 20,
        "warm ≤ 100 ms beyond a bare fork": measured["warm_s"] <= measured["bare_fork_s"] + 0.1,
        "memory of four warm trials below four cold ones": measured["four_warm_mb"] < measured["four_cold_mb"],
        "function ≤ 1/20 of wandb.agent(function=)": measured["warm_function_s"] <= measured["stock_function_s"] / 20,
    }
    if given.json:
        print(json.dumps({**measured, "met": wanted}))
    else:
        shown = Table("", "")
        for name, value in measured.items():
            shown.add_row(name, f"{value:.3f}" if isinstance(value, float) else ", ".join(value))
        for name, met in wanted.items():
            shown.add_row(name, "met" if met else "MISSED")
        Console(width=110).print(shown)
    return 0 if all(wanted.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
