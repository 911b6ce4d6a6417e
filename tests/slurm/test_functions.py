"""A function as a sweep's run on a cluster: it needs nothing there but the shared file system."""

from __future__ import annotations

import json

import pytest
from support import Shell

pytestmark = pytest.mark.slurm

SUBMIT = """
import json, os, socket
import wandb, wandb_submit

offset = 10

def train():
    with wandb.init() as run:
        run.log({"loss": run.config.x + offset})
        print(json.dumps([run.config.x, os.environ["CUDA_VISIBLE_DEVICES"], os.environ["SLURM_JOB_ID"], os.getuid()]))
        if run.config.x == 2:
            raise ValueError("two")

config = {"method": "grid", "project": "tests", "metric": {"name": "loss"}, "parameters": {"x": {"values": [1, 2, 3]}}}
submission = wandb_submit.submit(
    config, function=train, array=1, gpus_per_task=1, executor="slurm", time="60", offline=True,
    partition="gpu", sbatch={"comment": "from-python"},
)
snapshot = submission.wait()
results = submission.results()
logs = [submission.logs(run.id) for run in submission.runs()]
assert os.popen("scontrol show job | grep -c Partition=gpu").read().strip() != "0"
print(json.dumps([submission.id, snapshot.is_well, results.states, results.best.metric, logs]))
"""


def test_a_function_travels_to_the_nodes_in_the_submissions_folder(user_shell: Shell) -> None:
    (user_shell.folder / "submit.py").write_text(SUBMIT)
    done = user_shell.call("python", "submit.py", timeout_s=240)
    assert done.returncode == 0, done.stderr
    submission, is_well, states, best, logs = json.loads(done.stdout.splitlines()[-1])
    assert is_well
    assert states == {"finished": 2, "failed": 1}
    assert best == 11
    assert "ValueError: two" in logs[1]
    told = [json.loads(next(line for line in log.splitlines() if line.startswith("["))) for log in logs]
    assert [x for x, *_ in told] == [1, 2, 3]
    assert all(gpu in {"0", "1", "2", "3"} and job and user != 0 for _, gpu, job, user in told)
    assert [event["warm"] for event in user_shell.events(submission, "run_started")] == [True] * 3
