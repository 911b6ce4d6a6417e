"""What several tiers of tests use: a person's shell, and waiting."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

ROOT = Path(__file__).resolve().parents[1]

# What a command begins with for which permissions hold, even if it is root's.
WITH_PERMISSIONS = ("setpriv", "--bounding-set=-dac_override")

_T = TypeVar("_T")


def scrubbed(home: Path) -> dict[str, str]:
    """This process's environment without what would lead anything elsewhere, and with a home folder of its own."""
    home.mkdir(parents=True, exist_ok=True)
    (home / ".netrc").touch(mode=0o600)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("WANDB_", "XDG_", "SLURM_", "SUBMITIT_", "CUDA_", "ROCR_", "HIP_"))
        and not name.lower().endswith("_proxy")
    }
    return {
        **kept,
        "HOME": str(home),
        "NETRC": str(home / ".netrc"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "WANDB_ERROR_REPORTING": "false",
    }


def wait_until(check: Callable[[], _T | None], *, what: str, timeout_s: float = 120) -> _T:
    """Calls `check` until it gives something true; fails with the last thing it gave.

    The time is for what never comes: long enough that a busy machine is not taken for a broken program.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        seen = check()
        if seen:
            return seen
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}; last seen: {seen!r}")
        time.sleep(0.05)


def commands() -> dict[int, list[str]]:
    """The argument list of every process; those that end meanwhile, and zombies, are left out."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found[int(entry.name)] = (entry / "cmdline").read_text(errors="surrogateescape").split("\0")[:-1]
    return {pid: arguments for pid, arguments in found.items() if arguments}


def processes_of(folder: Path) -> list[int]:
    """A local scheduler's keeper, itself and its tasks, which are its forks; `folder` is its own (`Shell.queue`)."""
    return [pid for pid, arguments in commands().items() if str(folder) in arguments]


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of that size, such as `1m`, in a new folder; mounting takes root, as the Slurm tier does."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def alive(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclass(frozen=True, kw_only=True)
class Shell:
    """A person at a prompt: a folder, an environment, and `wandb-submit` on PATH."""

    folder: Path
    env: Mapping[str, str]
    prefix: tuple[str, ...] = ()

    def run(self, *arguments: str, timeout_s: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs `wandb-submit` to its end."""
        return self.call("wandb-submit", *arguments, timeout_s=timeout_s, **env)

    def call(self, *argv: str, timeout_s: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs any program to its end."""
        return subprocess.run(
            [*self.prefix, *argv],
            cwd=self.folder,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def ok(self, *arguments: str, timeout_s: float = 120, **env: str) -> str:
        """Runs `wandb-submit`, which must succeed; returns what it printed on stdout."""
        done = self.run(*arguments, timeout_s=timeout_s, **env)
        assert done.returncode == 0, f"{arguments}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments: str, timeout_s: float = 120, **env: str) -> Any:
        """Runs `wandb-submit … --json`, which must succeed; returns what it printed."""
        return json.loads(self.ok(*arguments, "--json", timeout_s=timeout_s, **env))

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """Starts `wandb-submit` and does not wait for it."""
        return subprocess.Popen(
            [*self.prefix, "wandb-submit", *arguments],
            cwd=self.folder,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def sweep(self, script: str, *, name: str = "sweep", **config: object) -> str:
        """Writes a training script and a sweep file for it; returns the sweep file's name."""
        (self.folder / f"{name}.py").write_text(script)
        content = {"program": f"{name}.py", "method": "grid", "project": "tests", **config}
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
        return f"{name}.yaml"

    def example(self, name: str) -> str:
        """Copies an example's files here; returns its sweep file's name."""
        shutil.copytree(ROOT / "examples" / name, self.folder, dirs_exist_ok=True)
        return "sweep.yaml"

    def histories(self, sweep_path: str, *keys: str) -> dict[str, Any]:
        """What each run of a sweep has logged, by its id: rows of the values of some keys, read by `wandb.Api()`."""
        code = (
            "import json, sys, wandb; keys = sys.argv[2:]; "
            "print(json.dumps({run.id: [[row[key] for key in keys] for row in run.scan_history(keys=keys)]"
            " for run in wandb.Api().sweep(sys.argv[1]).runs}))"
        )
        return json.loads(self.wandb_python(code, sweep_path, *keys))

    def submission(self, submission_id: str) -> Path:
        """The folder of a submission."""
        return self.folder / ".wandb-submit" / submission_id

    def queue(self, submission_id: str) -> Path:
        """The folder of a local submission's scheduler."""
        return self.submission(submission_id) / "jobs" / f"queue-{submission_id}"

    def events(self, submission_id: str, event: str | None = None) -> list[dict[str, Any]]:
        """All events of a submission, each with its agent's name, oldest first."""
        found = []
        for path in self.submission(submission_id).glob("agents/*/events.jsonl"):
            for line in path.read_text().splitlines():
                found.append({"agent": path.parent.name, **json.loads(line)})
        return sorted((one for one in found if event in (None, one["event"])), key=lambda one: one["t"])

    def states(self, sweep_path: str) -> dict[str, int]:
        """How many runs of a sweep are in which state, as the offline server tells `wandb.Api()`."""
        code = (
            "import collections, json, sys, wandb; "
            "runs = wandb.Api().sweep(sys.argv[1]).runs; "
            "print(json.dumps(collections.Counter(run.state for run in runs)))"
        )
        return json.loads(self.wandb_python(code, sweep_path))

    def wandb_python(self, code: str, *arguments: str) -> str:
        """Runs Python whose `wandb` talks to the folder's offline server; returns what it printed."""
        point = 'eval "$(wandb-submit server env)" && exec python -c "$@"'
        done = self.call("sh", "-c", point, "sh", code, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def leave(self) -> None:
        """Stops the folder's offline server, if one runs."""
        self.run("server", "stop")


def with_torch(shell: Shell) -> Shell:
    """The same person in a training environment with torch, which `$WANDB_SUBMIT_TORCH` names."""
    ours, _, rest = shell.env["PATH"].partition(":")
    # wandb-submit is ours; python and torchrun are the training's.
    programs = shell.folder / "programs"
    programs.mkdir()
    (programs / "wandb-submit").symlink_to(Path(ours, "wandb-submit"))
    path = f"{programs}:{os.environ['WANDB_SUBMIT_TORCH']}:{ours}:{rest}"
    return Shell(folder=shell.folder, env={**shell.env, "PATH": path})


@dataclass(frozen=True, kw_only=True)
class Held:
    """How long an agent held its devices, and which run was on them when; all that events tell of one life of it."""

    agent: str
    gpus: str | None
    began: float
    ended: float
    reason: str
    runs: tuple[tuple[str, float, float], ...]

    @property
    def idle(self) -> list[float]:
        """How long the devices stood idle: before the first run, between two, and after the last."""
        edges = [self.began, *(time for _, *span in self.runs for time in span), self.ended]
        return [later - earlier for earlier, later in zip(edges[::2], edges[1::2], strict=True)]


def timeline(events: list[dict[str, Any]]) -> list[Held]:
    """Draws from a submission's events alone which device had which run when."""
    lives: list[Held] = []
    for agent in {event["agent"] for event in events}:
        started: dict[str, Any] = {}
        begun: dict[str, float] = {}
        runs: list[tuple[str, float, float]] = []
        for event in (event for event in events if event["agent"] == agent):
            match event["event"]:
                case "agent_started":
                    started, runs = event, []
                case "run_started":
                    begun[event["run"]] = event["t"]
                case "run_finished":
                    runs.append((event["run"], begun.pop(event["run"]), event["t"]))
                case "agent_stopped" if started:
                    lives.append(
                        Held(
                            agent=agent,
                            gpus=started["gpus"],
                            began=started["t"],
                            ended=event["t"],
                            reason=event["reason"],
                            runs=tuple(runs),
                        )
                    )
    return sorted(lives, key=lambda life: life.began)


def overlapping(intervals: list[tuple[float, float]]) -> bool:
    """Whether any two of some intervals of time overlap."""
    ordered = sorted(intervals)
    return any(later[0] < earlier[1] for earlier, later in itertools.pairwise(ordered))


def undisturbed(lr: float, steps: int) -> list[list[float]]:
    """The steps and losses that examples/preemptible logs when nobody interrupts it."""
    weight, rows = 0.0, []
    for step in range(steps):
        weight -= lr * 2 * (weight - 1)
        rows.append([step, (weight - 1) ** 2])
    return rows
