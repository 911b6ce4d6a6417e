"""The local queue as submitit sees it: any submitit user can pick it, with checkpoints and time limits."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support import Shell

PROGRAM = """
import json, os, sys, time
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

def fail():
    raise ValueError("as asked")

def sleep():
    time.sleep(600)

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


def test_a_job_that_fails_raises_what_submitit_raises(shell: Shell) -> None:
    output = run(
        shell,
        "job = executor.submit(fail)\n"
        "try:\n"
        "    job.result()\n"
        "except submitit.core.utils.FailedJobError as error:\n"
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


def test_a_job_over_its_time_limit_is_killed(shell: Shell) -> None:
    output = run(
        shell,
        "executor.update_parameters(workstation_timeout_min=0.05, workstation_signal_delay_s=0)\n"
        "job = executor.submit(sleep)\n"
        "while not job.done(): time.sleep(0.1)\n"
        "print(job.state)",
    )
    assert output.split() == ["TIMEOUT"]


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
        "jobs = [executor.submit(device) for _ in range(3)]\n"
        "print(json.dumps([job.result()[0] for job in jobs]))",
        CUDA_VISIBLE_DEVICES="0,1",
    )
    assert set(json.loads(output)) == {"0", "1"}
