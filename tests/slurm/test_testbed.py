"""The test bed itself: what the other tests of this folder take for granted."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from slurm.bed import CPU1, GPU1, GPU2, PORT, SCRIPT, environment

pytestmark = pytest.mark.slurm

GPU_TASKS = 3


def run(*argv: str | Path, env: dict[str, str] | None = None, timeout_s: float = 60) -> str:
    """Runs a command to its end and returns what it printed; fails with its stderr."""
    done = subprocess.run(
        argv, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, f"{argv}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def wait_until(condition: Callable[[], object], *, timeout_s: float, state: Callable[[], object]) -> None:
    """Polls until the condition holds; the failure shows the last state."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s; last: {state()}"
        time.sleep(0.1)


def daemon_pids(status: str) -> dict[str, int]:
    """Reads the daemons' lines of `slurm status`: name (and node) to pid."""
    lines = (line.partition(" running, pid ") for line in status.splitlines())
    return {name.strip(): int(pid) for name, _, pid in lines if pid}


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that `tester` can write to. pytest's tmp_path is root's alone."""
    folder = run("runuser", "-u", "tester", "--", "mktemp", "--directory").strip()
    yield Path(folder)
    run("rm", "-r", "--", folder)


def test_all_daemons_are_healthy() -> None:
    pids = daemon_pids(run(SCRIPT, "status"))
    assert list(pids) == [
        "munged",
        "mariadbd",
        "slurmdbd",
        "slurmctld",
        *(f"slurmd {node}" for node in (GPU1, GPU2, CPU1)),
    ]


def test_start_leaves_a_running_bed_alone() -> None:
    before = daemon_pids(run(SCRIPT, "status"))
    run(SCRIPT, "start")
    assert daemon_pids(run(SCRIPT, "status")) == before


def test_array_tasks_of_a_normal_user_get_a_gpu_each(shared_folder: Path) -> None:
    script = f'echo "$(hostname) $CUDA_VISIBLE_DEVICES" >{shared_folder}/task-$SLURM_ARRAY_TASK_ID; sleep 3'
    job = run(
        *("runuser", "-u", "tester", "--"),
        *("sbatch", "--parsable", "--chdir", str(shared_folder), "--output=/dev/null"),
        *(f"--array=0-{GPU_TASKS - 1}", "--gpus=1", "--wrap", script),
        env=environment(),
    ).strip()
    try:
        files = [shared_folder / f"task-{task}" for task in range(GPU_TASKS)]
        wait_until(
            lambda: all(file.exists() and file.read_text() for file in files),
            timeout_s=60,
            state=lambda: run("squeue", env=environment()),
        )
        places = [file.read_text().split() for file in files]
    finally:
        run("scancel", job, env=environment())
    assert len({(node, gpu) for node, gpu in places}) == GPU_TASKS
    assert {node for node, _ in places} <= {GPU1, GPU2}
    assert {gpu for _, gpu in places} <= {"0", "1", "2", "3"}


def test_daemons_listen_on_loopback_only() -> None:
    pids = daemon_pids(run(SCRIPT, "status"))
    listeners = [line.split() for line in run("ss", "-H", "--tcp", "--listening", "--processes", "-n").splitlines()]
    addresses = {name: [words[3] for words in listeners if f"pid={pid}," in words[-1]] for name, pid in pids.items()}
    # munged and mariadbd have no network socket at all.
    assert addresses == {
        "munged": [],
        "mariadbd": [],
        "slurmdbd": [f"127.0.0.1:{PORT + 1}"],
        "slurmctld": [f"127.0.0.1:{PORT}"],
        f"slurmd {GPU1}": [f"127.0.0.1:{PORT + 11}"],
        f"slurmd {GPU2}": [f"127.0.0.1:{PORT + 12}"],
        f"slurmd {CPU1}": [f"127.0.0.1:{PORT + 13}"],
    }


def test_stop_ends_its_own_processes_only(second_bed: dict[str, str]) -> None:
    shared = daemon_pids(run(SCRIPT, "status"))
    own = daemon_pids(run(SCRIPT, "status", env=second_bed))
    assert len(own) == len(shared) - 2  # No slurmdbd, no mariadbd.
    # Named like a daemon, and even with the same configuration.
    decoy = subprocess.Popen(["bash", "-c", "exec -a slurmd sleep 600"], env={**os.environ, **environment(second_bed)})
    try:
        run(SCRIPT, "stop", env=second_bed)
        assert decoy.poll() is None
        assert not [name for name, pid in own.items() if Path(f"/proc/{pid}/exe").exists()]
        assert daemon_pids(run(SCRIPT, "status")) == shared
    finally:
        decoy.send_signal(signal.SIGKILL)
        decoy.wait()


def test_stop_ends_jobs_that_ignore_signals(second_bed: dict[str, str]) -> None:
    env = environment(second_bed)
    script = 'trap "" TERM; setsid sleep 598 & (sleep 599 &) & echo $$ >"$PID_FILE"; wait; sleep 597'
    pid_file = Path(second_bed["TB_DIR"]).with_name("pid")
    run("sbatch", "--output=/dev/null", "--wrap", script, env={**env, "PID_FILE": str(pid_file)})
    wait_until(lambda: pid_file.exists() and pid_file.read_text(), timeout_s=30, state=lambda: run("squeue", env=env))
    run(SCRIPT, "stop", env=second_bed)
    mark = f"PID_FILE={pid_file}".encode()
    left = [proc for proc in Path("/proc").glob("[0-9]*") if mark in environ(proc)]
    assert [(proc / "cmdline").read_bytes() for proc in left] == []


def environ(proc: Path) -> list[bytes]:
    """Returns a process's environment; of one that just ended or is protected, nothing."""
    try:
        return (proc / "environ").read_bytes().split(b"\0")
    except OSError:
        return []
