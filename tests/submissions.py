"""Submissions as their folders hold them, without anything that runs."""

from __future__ import annotations

from pathlib import Path

from wandb_submit.spec import Endpoint, SweepRef
from wandb_submit.store import record as records
from wandb_submit.store.events import AgentStarted, EventWriter, RunStarted
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.store.record import SubmissionRecord

LOCAL = SubmissionRecord(
    id="hp7z3a",
    created="2026-01-02T03:04:05+00:00",
    executor="local",
    sweep=SweepRef(entity="local", project="vision", id="k3f9x2ab", base_url="http://127.0.0.1:9"),
    endpoint=Endpoint(base_url="http://127.0.0.1:9"),
    workdir="/work",
    array="2",
    jobs=("hp7z3a_0", "hp7z3a_1"),
    resources={},
)


def make(home: Path, record: SubmissionRecord, **runs: str) -> SubmissionPaths:
    """A submission whose agents, by their names, have started runs."""
    paths = records.create_folder(home, record.id)
    records.save(paths, record)
    for run, agent in runs.items():
        events = EventWriter(paths.events(agent))
        task = int(agent.partition(".")[0])
        events.write(AgentStarted(task=task, host="n", pid=1, job_id=record.jobs[task], gpus=None, cpus=[0]))
        events.write(RunStarted(run=run, pid=2, command=[], log=str(paths.run_log(run)), idle_s=0.0))
        paths.run_log(run).parent.mkdir(exist_ok=True)
        paths.run_log(run).touch()
    (paths.jobs / f"{record.jobs[-1]}_0_log.out").touch()
    return paths
