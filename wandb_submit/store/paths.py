"""Every file name of a submission's folder, in one place."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from wandb_submit.errors import NotFoundError
from wandb_submit.system.files import typed_path


def home(start: Path | None = None) -> Path:
    """The folder that submissions and the offline server live in.

    `WANDB_SUBMIT_DIR` names it; otherwise it is `.wandb-submit` in `start` (default: the current folder).
    On a cluster it must lie on a file system that the nodes share.
    """
    named = os.environ.get("WANDB_SUBMIT_DIR")
    return typed_path(named).absolute() if named else (start or current_folder()) / ".wandb-submit"


def current_folder() -> Path:
    """The current folder.

    Raises:
        NotFoundError: if it has been deleted.
    """
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise NotFoundError("the current folder has been deleted: change into another one") from error


def server_dir(start: Path | None = None) -> Path:
    """The data folder of the offline server that belongs to this folder."""
    return home(start) / "server"


def server_command(verb: str, data_dir: Path) -> str:
    """What a person types here to start, stop or look at the offline server of a data folder."""
    place = "" if data_dir == server_dir() else f" --data {shlex.quote(str(data_dir))}"
    return f"wandb-submit server {verb}{place}"


def task_log(jobs: Path, job: str, stream: str) -> Path:
    """Where submitit keeps what a task has printed: `out`, or `err`.

    Args:
        jobs: submitit's folder.
        job: the task's id.
        stream: which of the two.
    """
    return jobs / f"{job}_0_log.{stream}"


@dataclass(frozen=True, slots=True)
class SubmissionPaths:
    """The files of one submission.

    ```
    submission.json              what was asked for, and the jobs it became
    jobs/                        submitit's files: pickles, results, each task's own log
    agents/TASK/events.jsonl     what each agent did, one line per event
    runs/RUN.log                 what each run's program printed
    bin/                         what `python` is for the runs, where a template or --python says so
    function.pkl                 the function that its runs call, where they do not run the sweep's command
    halt                         why no agent takes another run, once that is so
    cancelled                    empty, and there once somebody has cancelled the submission
    ```
    """

    folder: Path

    @property
    def id(self) -> str:
        """The submission's short id, which is its folder's name."""
        return self.folder.name

    @property
    def submission(self) -> Path:
        """The record of what was asked for."""
        return self.folder / "submission.json"

    @property
    def jobs(self) -> Path:
        """submitit's folder."""
        return self.folder / "jobs"

    @property
    def agents(self) -> Path:
        """One folder per agent."""
        return self.folder / "agents"

    @property
    def halt(self) -> Path:
        """The word that no agent is to take another run; see `store.halt`."""
        return self.folder / "halt"

    @property
    def cancelled(self) -> Path:
        """What tells an agent that a signal means the person's wish, and not a time limit or an administrator's."""
        return self.folder / "cancelled"

    @property
    def bin(self) -> Path:
        """What is first on the runs' `PATH`; see `executors.activation`."""
        return self.folder / "bin"

    @property
    def function(self) -> Path:
        """The pickled function of a submission whose runs call one; see `submission.function`."""
        return self.folder / "function.pkl"

    def events(self, agent: str) -> Path:
        """The event file of the agent of that name."""
        return self.agents / agent / "events.jsonl"

    def run_log(self, run_id: str) -> Path:
        """The log of the run with that id."""
        return self.folder / "runs" / f"{run_id}.log"
