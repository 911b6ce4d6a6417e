"""What a large submission costs a Slurm cluster: seconds and requests (RPCs) to submit, watch and half cancel it.

The tasks wait in the queue (`--begin=now+1hour`), so that it measures the way in and not the agents. Beside it: one
plain sbatch of the same array, and single sbatch calls, as many as are worth waiting for. It runs in an environment
whose Slurm commands reach a cluster that allows such an array, as root there, as others may not read sdiag:

    export TB_DIR=/var/tmp/large TB_PORT=17900 TB_PREFIX=m TB_MAX_ARRAY=1001 TB_ACCOUNTING=0
    tests/testbed/slurm start && eval "$(tests/testbed/slurm env)" && python benchmarks/slurm_array.py
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

LATER = "now+1hour"
NAME = "bench-slurm-array"
# What clients ask for; the nodes' own messages are no matter here, nor is the question itself.
CLIENTS = re.compile(
    r"^\s+(REQUEST_(?!STATS_INFO|PING|NODE_REG|COMPLETE|STEP)\w+)\s*\(\s*\d+\) count:(\d+)", re.MULTILINE
)


class Bench:
    """A folder to submit from, and the offline server in it."""

    def __init__(self, folder: Path, tasks: int) -> None:
        self.folder = folder
        self.tasks = tasks
        self.submitted: list[str] = []  # the names of our jobs
        parameters = {"x": {"values": list(range(tasks))}}
        (folder / "train.py").write_text("pass\n")
        sweep = {"program": "train.py", "method": "grid", "project": "bench", "parameters": parameters}
        (folder / "sweep.yaml").write_text(json.dumps(sweep))

    def call(self, *argv: str) -> str:
        done = subprocess.run(argv, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(argv)}: {done.stderr}")
        return done.stdout

    def submit(self) -> str:
        """Submits the sweep; returns the submission's id."""
        options = ("--offline", "--executor", "slurm", "--array", str(self.tasks), "--sbatch", f"begin={LATER}")
        submission = str(json.loads(self.call("wandb-submit", "sweep.yaml", *options, "--json"))["id"])
        self.submitted.append(f"wandb-submit-{submission}")
        return submission

    def plain(self) -> None:
        self.call("sbatch", f"--array=0-{self.tasks - 1}", f"--begin={LATER}", f"--job-name={NAME}", "--wrap=true")

    def singles(self, number: int) -> None:
        for _ in range(number):
            self.call("sbatch", f"--begin={LATER}", f"--job-name={NAME}", "--wrap=true")

    def empty(self) -> None:
        """Cancels what this bench has put into the queue, and no other job."""
        for name in (NAME, *self.submitted):  # scancel takes one name at a time
            self.call("scancel", f"--name={name}")

    def requests(self) -> Counter[str]:
        """What clients have asked the controller so far, by kind."""
        return Counter({name: int(count) for name, count in CLIENTS.findall(self.call("sdiag"))})


def main() -> None:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--singles", type=int, default=200, help="single sbatch calls; their time is scaled")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), asked.tasks)
        bench.call("wandb-submit", "server", "start")
        try:
            measure(bench, asked.singles, asked.repeats)
        finally:
            bench.empty()
            bench.call("wandb-submit", "server", "stop")


def measure(bench: Bench, singles: int, repeats: int) -> None:
    """Measures the ways in side by side, several times; then one submission's later life."""
    ours, plain, single = [], [], []
    for _ in range(repeats):
        for times, way, scale in (
            (ours, bench.submit, 1.0),
            (plain, bench.plain, 1.0),
            (single, lambda: bench.singles(singles), bench.tasks / singles),
        ):
            start = time.monotonic()
            way()
            times.append((time.monotonic() - start) * scale)
            bench.empty()
    middle = statistics.median(ours)
    print(f"wandb-submit, {bench.tasks} tasks: {middle:.2f} s")
    print(f"one sbatch of that array: {statistics.median(plain):.3f} s; ratio {middle / statistics.median(plain):.1f}")
    scaled = f"{singles} single sbatch calls, scaled to {bench.tasks}"
    print(f"{scaled}: {statistics.median(single):.2f} s; ratio {middle / statistics.median(single):.3f}")

    before = bench.requests()
    submission = bench.submit()
    show("submit", before, bench.requests())
    before, start = bench.requests(), time.monotonic()
    looks = 5
    for _ in range(looks):
        record = json.loads(bench.call("wandb-submit", "status", submission, "--json"))
    show(f"{looks} looks ({(time.monotonic() - start) / looks:.2f} s each)", before, bench.requests())
    array, half = record["tasks"][0]["job"].partition("_")[0], bench.tasks // 2
    bench.call("scancel", f"{array}_[0-{half - 1}]")
    before, start = bench.requests(), time.monotonic()
    record = json.loads(bench.call("wandb-submit", "status", submission, "--json"))
    seconds = time.monotonic() - start
    states = dict(Counter(task["state"] for task in record["tasks"]))
    show(f"a look after half was cancelled ({seconds:.2f} s): {states}", before, bench.requests())
    before, start = bench.requests(), time.monotonic()
    bench.call("wandb-submit", "cancel", submission)
    show(f"cancel ({time.monotonic() - start:.2f} s)", before, bench.requests())


def show(what: str, before: Counter[str], after: Counter[str]) -> None:
    """Prints which requests were made meanwhile."""
    made = after - before
    print(f"{what}: {made.total()} requests: {', '.join(f'{count} {name}' for name, count in made.items())}")


if __name__ == "__main__":
    main()
