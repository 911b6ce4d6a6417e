"""Trials are real processes here; each says `ready` in its log once it is what the test needs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from wandb_submit.agent.runs.members import gentlest_signal
from wandb_submit.agent.runs.trial import Trial
from wandb_submit.system.process import wait_until

# A killed run takes all with it that carry its id: not what other tests have started.
RUN = f"r{os.getpid()}"
READY = "print('ready', flush=True); time.sleep(60)"
PLAIN = f"import time; {READY}"
CATCHES = f"import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); {READY}"
IGNORES = f"import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); {READY}"
WITH_CHILD = f"import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); {READY}"
# As torchrun does: a session for each process, whose group gets SIGTERM when the launcher does or another one ends.
LAUNCHER = """
import os, signal, subprocess, sys, time

def end(*_):
    for worker in workers:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGTERM)
    sys.exit(1)

start = lambda code: subprocess.Popen([sys.executable, "-I", "-S", "-c", code], start_new_session=True)
workers = [start(code) for code in sys.argv[1:]]
signal.signal(signal.SIGTERM, end)
print(*(worker.pid for worker in workers), flush=True)
while all(worker.poll() is None for worker in workers):
    time.sleep(0.05)
end()
"""
# Owns a run: its wandb-core is a child in yet another session.
OWNER = """
import os, subprocess, time
os.symlink("/bin/sleep", "wandb-core")
core = subprocess.Popen(["./wandb-core", "60"], start_new_session=True)
try:
    print("core", core.pid, "ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.5)
    print("all sent", core.poll(), flush=True)
    core.kill()
"""

PARENT = """
import asyncio, os, sys
from pathlib import Path
from wandb_submit.agent.runs.trial import Trial

async def main():
    log = Path(sys.argv[1])
    argv = [sys.executable, "-I", "-S", "-c", sys.argv[2]]
    trial = await Trial.start("r1", argv, env=os.environ, cwd=log.parent, log=log)
    print(trial.pid, flush=True)
    await trial.wait()

asyncio.run(main())
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def gone(*pids: int) -> bool:
    return wait_until(lambda: not any(is_running(pid) for pid in pids), timeout_s=60, every_s=0.01)


def ready(log: Path) -> bool:
    return wait_until(lambda: log.exists() and "ready" in log.read_text(), timeout_s=60, every_s=0.01)


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def with_trial(tmp_path: Path, code: str, then: Callable[[Trial], Coroutine[Any, Any, None]], *arguments: str) -> str:
    """Starts a trial, lets `then` have it once it is ready, and returns what it printed."""
    log = tmp_path / "runs" / "log"

    async def run() -> None:
        env = {"A": "b", "WANDB_RUN_ID": RUN}
        trial = await Trial.start(RUN, [*python(code), *arguments], env=env, cwd=tmp_path, log=log)
        try:
            assert await asyncio.to_thread(ready, log)
            await then(trial)
        finally:
            trial.kill()
            await trial.wait()

    asyncio.run(run())
    return log.read_text()


def test_a_trial_gets_its_environment_folder_and_a_closed_input(tmp_path: Path) -> None:
    async def end(trial: Trial) -> None:
        assert await trial.wait() == 0

    code = "import os, sys; print(os.getcwd(), os.environ['A'], repr(sys.stdin.read()), os.getpgid(0) == os.getpid())"
    assert with_trial(tmp_path, f"{code}; print('ready')", end) == f"{tmp_path} b '' True\nready\n"


def test_a_trials_log_is_private_and_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "runs" / "log"

    async def end(trial: Trial) -> None:
        await trial.wait()

    with_trial(tmp_path, "import sys; print('ready', file=sys.stderr)", end)
    assert with_trial(tmp_path, "print('ready')", end) == "ready\nready\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_program_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    async def start() -> None:
        await Trial.start(RUN, ["no-such-program"], env=os.environ, cwd=tmp_path, log=tmp_path / "log")

    with pytest.raises(FileNotFoundError):
        asyncio.run(start())


def test_a_python_that_listens_to_sigterm_gets_sigterm(tmp_path: Path) -> None:
    async def stop(trial: Trial) -> None:
        assert gentlest_signal(trial.pid) is signal.SIGTERM
        trial.stop("enough", kill_after_s=60)
        assert await trial.wait() == 7
        assert trial.stop_reason == "enough"

    with_trial(tmp_path, CATCHES, stop)


def test_a_python_that_does_not_gets_sigint_as_from_a_terminal(tmp_path: Path) -> None:
    async def stop(trial: Trial) -> None:
        assert gentlest_signal(trial.pid) is signal.SIGINT
        trial.stop("enough", kill_after_s=60)
        assert await trial.wait() == -signal.SIGINT

    assert "KeyboardInterrupt" in with_trial(tmp_path, PLAIN, stop)


def test_a_process_that_is_gone_has_no_wishes() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert gentlest_signal(process.pid) is signal.SIGTERM


def test_a_trial_that_does_not_listen_is_killed_once_its_time_is_over(tmp_path: Path) -> None:
    async def stop(trial: Trial) -> None:
        trial.stop("first", kill_after_s=60)
        trial.stop("second", kill_after_s=60)
        await asyncio.sleep(0.1)
        assert is_running(trial.pid)
        trial.stop("third", kill_after_s=0)
        assert await trial.wait() == -signal.SIGKILL
        assert trial.stop_reason == "first"

    with_trial(tmp_path, IGNORES, stop)


def test_a_trial_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    async def kill(trial: Trial) -> None:
        child = int((tmp_path / "runs" / "log").read_text().split()[0])
        assert is_running(child)
        trial.kill()
        assert await trial.wait() == -signal.SIGKILL
        assert gone(child)

    with_trial(tmp_path, WITH_CHILD, kill)


def test_a_stop_reaches_what_the_program_started_too(tmp_path: Path) -> None:
    async def stop(trial: Trial) -> None:
        child = int((tmp_path / "runs" / "log").read_text().split()[0])
        trial.stop("enough", kill_after_s=60)
        await trial.wait()
        assert gone(child)

    with_trial(tmp_path, WITH_CHILD, stop)


def test_stopping_a_trial_that_has_ended_does_nothing(tmp_path: Path) -> None:
    async def stop(trial: Trial) -> None:
        assert await trial.wait() == 0
        trial.stop("late", kill_after_s=0)
        trial.kill()

    with_trial(tmp_path, "print('ready')", stop)


def test_a_trial_and_its_children_die_with_an_agent_that_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    argv = [sys.executable, "-c", PARENT, str(log), WITH_CHILD]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        trial = int(agent.stdout.readline())
        assert ready(log)
        child = int(log.read_text().split()[0])
        assert is_running(trial)
        assert is_running(child)
        agent.kill()
    assert gone(trial, child)


def test_a_run_behind_a_launcher_ends_before_the_launcher_is_told(tmp_path: Path) -> None:
    async def stop(trial: Trial) -> None:
        trial.stop("enough", kill_after_s=60)
        assert await trial.wait() == 1

    said = with_trial(tmp_path, LAUNCHER, stop, OWNER, "import time; time.sleep(60)")
    assert "all sent None\n" in said


def test_a_killed_trial_leaves_nothing_in_other_sessions_but_wandbs_own(tmp_path: Path) -> None:
    async def kill(trial: Trial) -> None:
        words = (tmp_path / "runs" / "log").read_text().split()
        workers, core = [int(word) for word in words if word.isdecimal()], int(words[words.index("core") + 1])
        workers.remove(core)
        assert len(workers) == 2
        os.kill(trial.pid, signal.SIGKILL)  # the launcher alone: what it has started belongs to nobody now
        assert await trial.wait() == -signal.SIGKILL
        trial.kill()
        assert gone(*workers)
        assert is_running(core)
        os.kill(core, signal.SIGKILL)

    with_trial(tmp_path, LAUNCHER, kill, OWNER, "import time; time.sleep(60)")


def test_what_a_trial_has_submitted_is_not_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    env = {"WANDB_RUN_ID": RUN, "SLURM_JOB_ID": "8"}
    with subprocess.Popen(["sleep", "60"], env=env, start_new_session=True) as other:

        async def kill(trial: Trial) -> None:
            trial.kill()
            await trial.wait()

        with_trial(tmp_path, PLAIN, kill)
        assert is_running(other.pid)
        other.kill()


def test_a_trial_runs_on_its_cores_and_the_agent_on_its_own(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    core = max(before)

    async def run() -> int:
        argv = python("import os; print(sorted(os.sched_getaffinity(0)))")
        trial = await Trial.start(RUN, argv, env={}, cwd=tmp_path, log=tmp_path / "log", cores=[core])
        return await trial.wait()

    assert asyncio.run(run()) == 0
    assert (tmp_path / "log").read_text() == f"[{core}]\n"
    assert os.sched_getaffinity(0) == before


def test_a_program_that_is_not_there_leaves_nothing_open(tmp_path: Path) -> None:
    async def start() -> None:
        with pytest.raises(FileNotFoundError):
            await Trial.start(RUN, ["/nowhere/python"], env={}, cwd=tmp_path, log=tmp_path / "log")

    asyncio.run(start())  # what a process opens but once is open now
    before = sorted(path.name for path in Path("/proc/self/fd").iterdir())
    asyncio.run(start())
    assert sorted(path.name for path in Path("/proc/self/fd").iterdir()) == before
