"""The local queue as submitit sees it: any submitit user can pick it, with checkpoints and time limits."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support import Shell, overlapping

PROGRAM = """
import json, os, pathlib, sys, time
import submitit

class Countdown:
    # Counts to five, one step a second, and goes on where it was after a requeue.
    def __init__(self, at=0, starts=0):
        self.at, self.starts = at, starts + 1
    def __call__(self):
        while self.at < 5:
            time.sleep(1)
            self.at += 1
        return self.at, self.starts
    def checkpoint(self):
        return submitit.helpers.DelayedSubmission(Countdown(self.at, self.starts))

def device():
    time.sleep(0.3)
    return os.environ["CUDA_VISIBLE_DEVICES"], sorted(os.sched_getaffinity(0)), submitit.JobEnvironment().job_id

def meet():
    # Ends once there has been a job on each of two devices.
    own = os.environ["CUDA_VISIBLE_DEVICES"]
    pathlib.Path(f"met-{own}").touch()
    while len(list(pathlib.Path().glob("met-*"))) < 2:
        time.sleep(0.05)
    return own

def fail():
    raise ValueError("as asked")

def sleep():
    time.sleep(600)

def note_signals():
    import signal
    def note(number, frame):
        with open("noted", "a") as file:
            print(signal.Signals(number).name, file=file)
    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, note)
    sleep()

if __name__ == "__main__":
    executor = submitit.AutoExecutor("jobs", cluster="workstation")
"""


def run(shell: Shell, lines: str, **env: str) -> str:
    """Runs the program with some more lines, which submit and print."""
    (shell.folder / "program.py").write_text(PROGRAM + "".join(f"    {line}\n" for line in lines.splitlines()))
    done = shell.call(sys.executable, "program.py", PYTHONPATH=str(shell.folder), **env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_jobs_get_devices_of_their_own_and_results_come_back(shell: Shell) -> None:
    output = run(
        shell,
        "executor.update_parameters(workstation_gpus_per_task=1)\n"
        "jobs = executor.submit_array([device] * 4)\n"
        "print(json.dumps([job.result() for job in jobs]))\n"
        "print(json.dumps([[job.job_id, job.state] for job in jobs]))",
        CUDA_VISIBLE_DEVICES="3,5",
    )
    results, jobs = map(json.loads, output.splitlines())
    assert {gpu for gpu, _, _ in results} == {"3", "5"}
    assert [job_id for _, _, job_id in results] == [job_id for job_id, _ in jobs]
    assert len({job_id for job_id, _ in jobs}) == 4


def test_the_gpus_to_choose_from_can_be_named(shell: Shell) -> None:
    output = run(
        shell,
        "executor.update_parameters(workstation_gpus_per_task=1, workstation_gpus='4-5')\n"
        "print(json.dumps([job.result()[0] for job in executor.submit_array([device] * 3)]))",
        CUDA_VISIBLE_DEVICES="3,4,5",
    )
    assert set(json.loads(output)) == {"4", "5"}


def test_a_job_that_fails_raises_what_submitit_raises(shell: Shell) -> None:
    output = run(
        shell,
        "job = executor.submit(fail)\n"
        "try:\n"
        "    job.result()\n"
        "except submitit.core.utils.FailedJobError as error:\n"
        "    while job.state == 'RUNNING':  # its result is there a moment before its end\n"
        "        time.sleep(0.05)\n"
        "    print('as asked' in str(error), job.state)",
    )
    assert output.split() == ["True", "FAILED"]


def test_a_time_limit_warns_requeues_and_goes_on_from_the_checkpoint(shell: Shell) -> None:
    output = run(
        shell,
        "executor.update_parameters(workstation_timeout_min=0.07, workstation_signal_delay_s=1)\n"
        "print(json.dumps(executor.submit(Countdown()).result()))",
    )
    at, starts = json.loads(output)
    assert at == 5
    assert starts > 1


def test_a_job_over_its_time_limit_is_told_and_then_killed(shell: Shell) -> None:
    """USR2, which submitit would requeue on, then TERM, then KILL."""
    output = run(
        shell,
        "executor.update_parameters(workstation_timeout_min=0.07)\n"
        "executor.update_parameters(workstation_signal_delay_s=2, workstation_grace_s=1)\n"
        "job = executor.submit(note_signals)\n"
        "while not job.done(): time.sleep(0.1)\n"
        "print(job.state, open('noted').read())",
    )
    assert output.split() == ["TIMEOUT", "SIGUSR2", "SIGTERM"]


def test_cancel_ends_a_job(shell: Shell) -> None:
    output = run(
        shell,
        "job, other = executor.submit_array([sleep, sleep])\n"
        "while job.state != 'RUNNING': time.sleep(0.1)\n"
        "job.cancel()\n"
        "while not job.done(): time.sleep(0.1)\n"
        "print(job.state, other.state)\n"
        "other.cancel()",
    )
    assert output.split() == ["CANCELLED", "RUNNING"]


@pytest.mark.parametrize("module", ["submitit.slurm.slurm", "submitit.core.submission"])
def test_what_we_rely_on_in_submitit_is_there(module: str) -> None:
    names = {
        "submitit.slurm.slurm": ("SlurmExecutor._internal_process_submissions", "SlurmExecutor._submitit_command_str"),
        "submitit.core.submission": ("process_job",),
    }[module]
    code = f"import {module} as module, operator\nfor name in {names!r}: operator.attrgetter(name)(module)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_several_submissions_may_share_a_folder(shell: Shell) -> None:
    output = run(
        shell,
        "executor.update_parameters(workstation_gpus_per_task=1)\n"
        "jobs = [executor.submit(meet) for _ in range(3)]\n"
        "print(json.dumps([job.result() for job in jobs]))",
        CUDA_VISIBLE_DEVICES="0,1",
    )
    assert set(json.loads(output)) == {"0", "1"}


def test_eight_functions_share_four_devices(shell: Shell) -> None:
    """With submitit's own names alone, as a program that ran on Slurm before."""
    (shell.folder / "program.py").write_text("""
import json, os, time
import submitit

def train(x):
    began = time.time()
    time.sleep(0.5)
    if x == 5:
        raise ValueError("five")
    return x * x, os.environ["CUDA_VISIBLE_DEVICES"], began, time.time()

if __name__ == "__main__":
    executor = submitit.AutoExecutor("jobs", cluster="workstation")
    executor.update_parameters(
        name="train", timeout_min=10, nodes=1, tasks_per_node=1, gpus_per_node=1, mem_gb=1
    )
    with executor.batch():
        jobs = [executor.submit(train, x) for x in range(8)]
    done = [job for job in submitit.helpers.as_completed(jobs, poll_frequency=0.1)]
    jobs[0].wait()
    results = [job.results()[0] for job in jobs if job.exception() is None]
    error = jobs[5].exception()
    print(json.dumps([len(done), results, type(error).__name__, "ValueError: five" in str(error)]))
""")
    done = shell.call(sys.executable, "program.py", PYTHONPATH=str(shell.folder), CUDA_VISIBLE_DEVICES="0,1,2,3")
    assert done.returncode == 0, done.stderr
    finished, results, error, told = json.loads(done.stdout)
    assert (finished, error, told) == (8, "FailedJobError", True)
    assert [square for square, *_ in results] == [0, 1, 4, 9, 16, 36, 49]
    assert {gpu for _, gpu, _, _ in results} == {"0", "1", "2", "3"}
    for gpu in "0123":
        assert not overlapping([(began, ended) for _, on, began, ended in results if on == gpu])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("gpus_per_node=3", "a job that needs 3 GPUs would wait for ever: this machine has 2 GPUs"),
        ("nodes=2", "nodes=2: a job on a workstation is one task on one node"),
        ("tasks_per_node=4", "tasks_per_node=4: a job on a workstation is one task on one node"),
    ],
)
def test_what_a_workstation_has_not_is_refused_at_once(shell: Shell, asked: str, words: str) -> None:
    output = run(
        shell,
        f"try:\n    executor.update_parameters({asked})\n    executor.submit(sleep)\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
        "print(os.listdir('.'))",
        CUDA_VISIBLE_DEVICES="0,1",
    )
    assert output.startswith(f"RefusedError {words}")
    assert "jobs" not in output.splitlines()[-1]


def test_a_job_may_be_cancelled_with_the_last_reference_to_it(shell: Shell) -> None:
    output = run(
        shell,
        "executor.update_parameters(workstation_grace_s=-10)\n"
        "job = executor.submit(sleep).cancel_at_deletion()\n"
        "while job.state != 'RUNNING': time.sleep(0.1)\n"
        "same = type(job)(job.paths.folder, job.job_id)\n"
        "del job\n"
        "while not same.done(): time.sleep(0.1)\n"
        "print(same.state)",
    )
    assert output == "CANCELLED\n"
