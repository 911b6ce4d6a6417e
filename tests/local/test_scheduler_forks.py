"""Tasks are forks of their scheduler, and nothing of it but what it has imported is theirs."""

from __future__ import annotations

import json
import sys

from support import Shell

PROGRAM = """
import json, os, signal, socket, sys, threading, time
from pathlib import Path
import submitit

def look():
    imported = set(sys.modules)
    socket.getaddrinfo("localhost", 80)  # what every agent does before it asks its server
    leader = os.getpid() == os.getsid(0) == os.getpgid(0)
    signal.pthread_sigmask(signal.SIG_BLOCK, ())
    blocked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    files = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.exists()]
    return {
        "parent": Path(f"/proc/{os.getppid()}/cmdline").read_text().split("\\0"),
        "leader": leader,
        "blocked": blocked,
        "cores": sorted(os.sched_getaffinity(0)),
        "cuda": os.environ["CUDA_VISIBLE_DEVICES"],
        "locks": sorted(file.rpartition("/")[2] for file in files if file.endswith(".lock")),
        "threads": threading.active_count(),
        "hidden": [name for name, module in sys.modules.items() if module is None],
        "numpy": "numpy" in sys.modules,
        "late": sorted(set(sys.modules) - imported),
        "random": os.urandom(1) and __import__("random").random(),
    }

def leave_a_thread():
    def late():
        time.sleep(0.5)
        Path("late").touch()
    threading.Thread(target=late).start()
    import atexit
    atexit.register(Path("at-exit").touch)

def leave(status):
    print("left", flush=True)
    os._exit(status)

def fail():
    raise OSError("as asked")

if __name__ == "__main__":
    executor = submitit.AutoExecutor("jobs", cluster="workstation")
    executor.update_parameters(workstation_gpus_per_task=1, workstation_cpus_per_task=1)
"""


def run(shell: Shell, lines: str, **env: str) -> str:
    """Runs the program with some more lines, which submit and print."""
    (shell.folder / "program.py").write_text(PROGRAM + "".join(f"    {line}\n" for line in lines.splitlines()))
    done = shell.call(sys.executable, "program.py", PYTHONPATH=str(shell.folder), **env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_task_has_its_devices_and_nothing_else_of_its_scheduler(shell: Shell) -> None:
    output = run(
        shell,
        "jobs = executor.submit_array([look] * 3)\nprint(json.dumps([job.result() for job in jobs]))",
        CUDA_VISIBLE_DEVICES="4,6",
    )
    seen = json.loads(output)
    for task in seen:
        assert "wandb_submit.executors.local.keeper" in task["parent"]
        (core,) = task["cores"]
        assert task["locks"] == sorted([f"core-{core}.lock", f"gpu-{task['cuda']}.lock"])
        assert (task["leader"], task["blocked"], task["threads"]) == (True, [], 1)
        assert (task["hidden"], task["numpy"]) == ([], False)  # not imported, but there to be
        assert task["late"] == []  # what a task imports by itself it shares with nobody
    assert len({task["random"] for task in seen}) == 3


def test_a_task_ends_as_a_program_does(shell: Shell) -> None:
    output = run(
        shell,
        "jobs = [executor.submit(leave_a_thread), executor.submit(leave, 7), executor.submit(fail)]\n"
        "while not all(job.state in ('COMPLETED', 'FAILED') for job in jobs): time.sleep(0.1)\n"
        "print([job.state for job in jobs], Path('late').exists(), Path('at-exit').exists())\n"
        "print(repr(jobs[1].stdout().splitlines()[-1]), 'OSError: as asked' in jobs[2].stderr())",
        CUDA_VISIBLE_DEVICES="0,1,2",
    )
    assert output.splitlines() == ["['COMPLETED', 'FAILED', 'FAILED'] True True", "'left' True"]
