"""What a name stands for that one of our commands, or the scheduler, has printed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wandb_submit.errors import NotFoundError, WandbSubmitError
from wandb_submit.executors.slurm.cli import expand
from wandb_submit.store import paths as layout
from wandb_submit.store import record as records
from wandb_submit.store.journal import Journal
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.store.record import SubmissionRecord
from wandb_submit.system.files import typed_path
from wandb_submit.wandb_api import results

_LOG_OF_A_TASK = re.compile(r"_\d+_log\.(?:out|err)$")  # submitit's, see `paths.task_log`
_LOG_OF_A_RUN = ".log"


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A submission, or a part of it.

    Attributes:
        tasks: the array tasks that the name stands for; empty where it does not name tasks.
        run: the id of the run that it stands for.
    """

    paths: SubmissionPaths
    tasks: tuple[int, ...] = ()
    run: str | None = None

    @property
    def part(self) -> str:
        """Which part of the submission it is, in words; empty if it is all of it."""
        if self.run is not None:
            return f"run {self.run}"
        noun = "task" if len(self.tasks) == 1 else "tasks"
        return f"{noun} {', '.join(map(str, self.tasks))}" if self.tasks else ""

    def __str__(self) -> str:
        return f"{self.part} of {self.paths.id}" if self.part else self.paths.id


def find(name: str | None, home: Path | None = None) -> Found:
    """Finds what a name stands for among the submissions of a folder.

    It may be a submission's id or the beginning of it, its folder or any file there, the scheduler's id of a task or
    an array, the id or path of a sweep, a run's id or the beginning of it, and the name that its server shows it by.

    Args:
        name: the name; `None` is the newest submission.
        home: where the submissions are; default: that of the current folder.

    Raises:
        NotFoundError: if it stands for nothing, or for several things.
    """
    if name is None:
        return Found(paths=records.find(None, home))
    if not name.strip():  # as of a script's variable that is not set: never the only submission there is
        raise NotFoundError("ID is empty. Leave it out for the newest submission, or name one.")
    if (place := _by_path(name)) is not None:
        return place
    known = records.all_submissions(layout.home() if home is None else home)
    meanings: tuple[Callable[[], Iterable[Found]], ...] = (
        lambda: (Found(paths=paths) for paths in known if paths.id == name),
        lambda: (found for paths, record in _records(known) if (found := _job(paths, record, name))),
        lambda: (Found(paths=paths) for paths, record in _records(known) if _is_sweep(record, name)),
        lambda: (Found(paths=paths) for paths in known if paths.id.startswith(name)),
        lambda: (found for found in _runs(known) if found.run == name.removesuffix(_LOG_OF_A_RUN)),
        lambda: (found for found in _runs(known) if found.run and found.run.startswith(name)),
        lambda: _shown_as(known, name),
    )
    for meaning in meanings:
        match list(meaning()):
            case [only]:
                return only
            case [_, *_] as several:
                raise NotFoundError(f"{name!r} could be {', '.join(map(str, several))}: type more of it, or name one")
    array = name.rpartition("_")[0]
    for paths, record in _records(known) if array else ():
        if any(job.rpartition("_")[0] == array for job in record.jobs):
            raise NotFoundError(f"{name!r} names no task of {paths.id}: they are {record.jobs[0]} to {record.jobs[-1]}")
    return Found(paths=records.find(name, home))  # which says what there is


def part(paths: SubmissionPaths, name: str) -> Found | None:
    """What a name stands for within a submission: a run's id, a task's or an agent's name; `None` if nothing.

    Raises:
        NotFoundError: if it stands for a run as well as for a task.
    """
    record = records.load(paths)
    run = next((found for found in _runs([paths]) if found.run == name.removesuffix(_LOG_OF_A_RUN)), None)
    task = _job(paths, record, name) or _agent(paths, record, name)
    if run is not None and task is not None:
        raise NotFoundError(f"{name!r} is a run and a task of {paths.id}: name the task with --task")
    return run or task or next(_shown_as([paths], name), None)


def _by_path(name: str) -> Found | None:
    """What a folder or file of a submission belongs to."""
    path = typed_path(name).absolute()
    for folder in (path, *path.parents) if os.path.exists(path) else ():  # noqa: PTH110 Path's raises on a long name
        paths = SubmissionPaths(folder)
        if paths.submission.is_file():
            inside = path.relative_to(folder).parts[:2]
            return (part(paths, inside[1]) if len(inside) == 2 else None) or Found(paths=paths)
    return None


def _records(known: Iterable[SubmissionPaths]) -> Iterator[tuple[SubmissionPaths, SubmissionRecord]]:
    for paths in known:
        try:
            yield paths, records.load(paths)
        except NotFoundError:  # one that cannot be read is found by its id, and then says so
            continue


def _job(paths: SubmissionPaths, record: SubmissionRecord, name: str) -> Found | None:
    """The tasks of the scheduler's id of a task, of an array, or of a part of one as squeue and we write it."""
    job = _LOG_OF_A_TASK.sub("", name)
    if job in record.jobs:
        return Found(paths=paths, tasks=(record.jobs.index(job),))
    named = {known for known in record.jobs if job == known.rpartition("_")[0]} or set(expand(job))
    tasks = tuple(at for at, known in enumerate(record.jobs) if known in named)
    if not tasks or len(tasks) < len(named) or job.endswith("...]"):  # a list that squeue has cut short
        return None
    return Found(paths=paths, tasks=() if len(tasks) == len(record.jobs) else tasks)


def _agent(paths: SubmissionPaths, record: SubmissionRecord, name: str) -> Found | None:
    """The task of an agent's name: its number, with a place behind it where a task has several agents."""
    number = name.partition(".")[0]
    known = number.isdecimal() and int(number) < len(record.jobs)
    if known and (name == number or paths.events(name).exists()):
        return Found(paths=paths, tasks=(int(number),))
    return None


def _is_sweep(record: SubmissionRecord, name: str) -> bool:
    sweep = record.sweep
    return name in (sweep.id, sweep.path) or name.endswith(f"{sweep.project}/sweeps/{sweep.id}")


def _shown_as(known: Sequence[SubmissionPaths], name: str) -> Iterator[Found]:
    """The runs that a server shows by this name: `SWEEP-3` on an offline one, `comfy-sweep-3` on W&B's.

    Only servers that may know it are asked; for names as W&B's that is the newest submission's.
    """
    last = known[-1].id if known else None
    for paths, record in _records(known):
        if name.startswith(f"{record.sweep.id}-") or ("-sweep-" in name and paths.id == last):
            try:
                shown = {run.id for run in results.read(record.sweep, record.endpoint).runs if run.name == name}
            except WandbSubmitError:  # that the name is unknown says more than why a server cannot be asked
                continue
            yield from (found for found in _runs([paths]) if found.run in shown)


def _runs(known: Iterable[SubmissionPaths]) -> Iterator[Found]:
    for paths in known:
        journal = Journal(paths)
        journal.update()
        yield from (Found(paths=paths, run=run) for run in journal.runs)
