"""Submitting a sweep: its jobs, and what is taken back where one of the steps fails."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from wandb_submit.agent.task import AgentTask
from wandb_submit.errors import RefusedError, UnavailableError
from wandb_submit.executors.base import TooManyTasksError
from wandb_submit.options.documentation import documented
from wandb_submit.options.table import Options
from wandb_submit.spec import Endpoint
from wandb_submit.store import record as records
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.store.record import SubmissionRecord
from wandb_submit.submission import endpoints
from wandb_submit.submission.prepare import Prepared, prepare
from wandb_submit.submission.submission import Submission
from wandb_submit.system.files import unwritable
from wandb_submit.wandb_api import names, sweeps

if TYPE_CHECKING:
    from typing_extensions import Unpack  # Python 3.11 has it in `typing`

__all__ = ["Submission", "attach", "send", "submit"]

_T = TypeVar("_T")


@documented
def submit(
    sweep: str | os.PathLike[str] | Mapping[str, Any],
    *,
    function: Callable[[], object] | None = None,
    offline: bool = False,
    clip: bool = False,
    **options: Unpack[Options],
) -> Submission:
    """Starts agents for a sweep and returns at once; the command line's main job.

    A slip in a configuration that is no error is a `UserWarning`.

    Args:
        sweep: an id, `project/id`, `entity/project/id`, a sweep's URL, or a sweep YAML file or its content as a
            dictionary, to create it from.
        function: what runs call, as `wandb.agent(function=...)` does, each in a process of its own; without one they
            run the sweep's command. It may be defined in a notebook. What it uses is imported once per agent.
        offline: use the offline server of the current folder, and start it if need be.
        clip: submit as many array tasks as the scheduler takes now, if it does not take all.
        **options: the options of `wandb-submit`, listed below; `None` means not given.

    Raises:
        WandbSubmitError: if anything is wrong; then nothing has been left behind.
    """
    prepared = prepare(sweep, options, function=function, offline=offline, clip=clip)
    for text in prepared.warnings:
        warnings.warn(text, stacklevel=2)
    told: list[str] = []
    submission = send(prepared, lambda made: told.extend(made.warnings))
    for text in told:
        warnings.warn(text, stacklevel=2)
    return submission


def attach(submission_id: str | None = None) -> Submission:
    """Finds a submission of this folder by its id or the beginning of it; without one, the newest.

    Another name that we print will do, too: a task's, a run's, the sweep's, or a path in the submission's folder.

    Raises:
        NotFoundError: if there is none.
    """
    return Submission.attach(submission_id)


@endpoints.no_server_for_nothing()
def send(prepared: Prepared, on_sweep: Callable[[sweeps.Sweep], None] | None = None) -> Submission:
    """Creates the sweep if need be, and submits.

    Args:
        prepared: what to submit.
        on_sweep: is told the sweep as soon as it exists, so that it is not forgotten if submitting fails.

    Raises:
        WandbSubmitError: if anything goes wrong; then no folder is left behind, and no sweep is created that the
            scheduler would not have run.
    """
    with _folder(prepared.paths) as paths:
        prepared = _fitting(prepared, lambda asked: asked.executor.check(asked.plan))[0]
        if prepared.function is not None:
            prepared.function.write(paths)
        server = endpoints.endpoint(offline=prepared.offline, node=prepared.node)
        sweep = prepared.sweep
        if sweep is None:
            assert isinstance(prepared.source, names.SweepFile)  # noqa: S101 a name has been looked up
            sweep = sweeps.create(prepared.source, server)
            endpoints.keep(server)
        if on_sweep is not None:
            on_sweep(sweep)
        try:
            _fitting(prepared, lambda asked: _submit(asked, sweep, server))
        except RefusedError:  # nothing was submitted
            raise
        except BaseException as error:
            # Ctrl-C, a full disk, a scheduler that does not answer: what has no record must not run.
            try:
                prepared.executor.abandon(paths)
            except UnavailableError as left:
                raise UnavailableError(f"{error}; {left}") from error
            raise
    endpoints.keep(server)
    return Submission(paths)


def _fitting(prepared: Prepared, act: Callable[[Prepared], _T]) -> tuple[Prepared, _T]:
    """Does something with a submission; with fewer tasks if the scheduler asks for that and the person allows it."""
    while True:
        try:
            return prepared, act(prepared)
        except TooManyTasksError as error:
            if not prepared.clip or error.fits >= prepared.spec.array.count:
                raise
            prepared = prepared.clipped(error.fits)


def _submit(prepared: Prepared, sweep: sweeps.Sweep, server: Endpoint) -> None:
    paths, spec = prepared.paths, prepared.spec
    tasks = [
        AgentTask(sweep=sweep.ref, endpoint=server, folder=paths.folder, index=index, spec=spec)
        for index in range(spec.array.count)
    ]

    def keep(jobs: Sequence[str]) -> None:
        record = SubmissionRecord(
            id=paths.id,
            created=records.now(),
            executor=spec.executor,
            sweep=sweep.ref,
            endpoint=server,
            workdir=str(spec.workdir),
            array=str(spec.array),
            jobs=tuple(jobs),
            resources=dict(prepared.plan.resources()),
            runs_left=sweep.runs_left,
            runs_total=sweep.runs_total,
            agent=spec.agent,
        )
        records.save(paths, record)

    prepared.executor.submit(prepared.plan.for_sweep(sweep.ref.id), tasks, paths, keep)


@contextlib.contextmanager
def _folder(paths: SubmissionPaths) -> Iterator[SubmissionPaths]:
    """Makes the submission's folder, and takes it away again if the submission fails."""
    parent = paths.folder.parent
    new_parent = not parent.exists()
    records.create_folder(parent, paths.id)
    try:
        yield paths
    except BaseException as error:
        shutil.rmtree(paths.folder, ignore_errors=True)
        if new_parent and [path.name for path in parent.glob("*")] in ([], [".gitignore"]):
            shutil.rmtree(parent, ignore_errors=True)  # nothing else, such as the offline server, lives there
        if isinstance(error, OSError):
            raise unwritable(paths.folder, error, records.elsewhere(error)) from error
        raise
