"""Our agents under submitit's own local executor, as somebody would write it who has not our queue.

It is given the sweep's path, the number of agents, and how many runs each of them takes at most (0: as many as there
are); it ends when they have.
"""

import os
import sys
from pathlib import Path

import submitit

from wandb_submit.agent.task import AgentTask
from wandb_submit.spec import ArraySpec, Endpoint, SubmissionSpec, SweepRef

if __name__ == "__main__":
    path, agents, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    entity, project, sweep = path.split("/")
    url = os.environ["WANDB_BASE_URL"]
    folder = Path("plain", sweep).absolute()
    spec = SubmissionSpec(executor="local", array=ArraySpec(count=agents), workdir=Path.cwd(), count=count or None)
    executor = submitit.LocalExecutor(folder / "jobs")
    executor.update_parameters(timeout_min=600)
    reference = SweepRef(entity=entity, project=project, id=sweep, base_url=url)
    jobs = executor.submit_array(
        [
            AgentTask(sweep=reference, endpoint=Endpoint(base_url=url), folder=folder, index=index, spec=spec)
            for index in range(agents)
        ]
    )
    for job in jobs:
        job.wait()
