"""Submitting a sweep: from what was asked for, over a plan that can be shown, to jobs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from wandb_submit.agent.runs import interpreter
from wandb_submit.agent.runs.launcher import why_cold
from wandb_submit.agent.task import AgentTask
from wandb_submit.devices import usable_cores, visible_gpus
from wandb_submit.errors import ConfigError, RefusedError, UnavailableError, WandbSubmitError
from wandb_submit.executors import catalog
from wandb_submit.executors.base import Executor, Plan, TooManyTasksError
from wandb_submit.options import blame, keywords
from wandb_submit.options import build as config
from wandb_submit.options.documentation import documented
from wandb_submit.options.table import Options
from wandb_submit.spec import ArraySpec, Endpoint, SubmissionSpec
from wandb_submit.store import record as records
from wandb_submit.store.paths import SubmissionPaths, current_folder, home, server_dir
from wandb_submit.store.record import SubmissionRecord
from wandb_submit.submission import endpoints, preloads
from wandb_submit.submission.function import Function
from wandb_submit.submission.submission import Submission
from wandb_submit.system.files import unwritable
from wandb_submit.text import counted
from wandb_submit.wandb_api import names, sweeps

if TYPE_CHECKING:
    from typing_extensions import Unpack  # Python 3.11 has it in `typing`

__all__ = ["Prepared", "Submission", "attach", "prepare", "send", "submit"]

_T = TypeVar("_T")

_AT_SERVER = 'eval "$(wandb-submit server env)"; '  # points `wandb` at the folder's server
_SLURM_ARRAY = 8  # agents of a Slurm submission that names no number


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A submission that is ready to be sent, or to be shown.

    Attributes:
        sweep: the sweep; `None` if it is to be created from `source`.
        node: the address of a machine that must reach the offline server; `None` if all of it is on this one.
        function: what runs call; `None` if they run the sweep's command.
        notes: defaults that were filled in, and what else the person should know.
        warnings: what in the sweep's configuration may not come out as it was meant.
        clip: whether fewer tasks will do, if the scheduler takes no more.
    """

    source: names.SweepName | names.SweepFile
    sweep: sweeps.Sweep | None
    spec: SubmissionSpec
    executor: Executor
    plan: Plan
    paths: SubmissionPaths
    offline: bool
    node: str | None = None
    function: Function | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)
    warnings: tuple[str, ...] = field(default_factory=tuple)
    clip: bool = False

    def clipped(self, fits: int) -> Prepared:
        """The same with so many array tasks."""
        array = dataclasses.replace(self.spec.array, count=fits)
        spec = dataclasses.replace(self.spec, array=array)
        return dataclasses.replace(self, spec=spec, plan=self.executor.plan(spec, self.paths))


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

    What in a configuration may not come out as it was meant is a `UserWarning`.

    Args:
        sweep: an id, `project/id`, `entity/project/id`, a sweep's URL, or a sweep YAML file or its content as a
            dictionary, to create it from.
        function: what runs call, as `wandb.agent(function=...)` does, each in a process of its own; without one they
            run the sweep's command. It may be defined in a notebook. What it uses is imported once per agent.
        offline: use the offline server of the current folder, and start it if need be.
        clip: submit as many array tasks as the scheduler takes now, if it does not take all.
        **options: the options of `wandb-submit`, listed below; `None` is as good as leaving one out.

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


@contextlib.contextmanager
def _no_server_for_nothing() -> Iterator[None]:
    """Stops an offline server that was started for what fails, unless it is of use to anybody."""
    try:
        yield
    except BaseException:
        from wandb_submit.server.control import lifecycle

        with contextlib.suppress(WandbSubmitError):  # what has failed is worth more words
            lifecycle.stop_unless_kept(server_dir())
        raise


@_no_server_for_nothing()
def prepare(
    sweep: str | os.PathLike[str] | Mapping[str, Any],
    options: Options,
    *,
    function: Callable[[], object] | None = None,
    offline: bool = False,
    dry_run: bool = False,
    clip: bool = False,
) -> Prepared:
    """Checks everything that can be checked, and works out what would be submitted.

    Changes nothing, but that it starts the offline server to look a sweep up; not in a dry run. If anything is wrong,
    a server that it has started is stopped again.

    Raises:
        WandbSubmitError: if anything is wrong.
    """
    keywords.check(options)
    source = names.parse(sweep, needs_program=function is None)
    pickled = None if function is None else Function.pickle(function)
    notes: list[str] = []
    found: sweeps.Sweep | None = None
    node: str | None = None
    if isinstance(source, names.SweepName):
        node = _a_node(options) if offline and not dry_run else None
        found = endpoints.find(source, offline=offline, start=not dry_run, node=node)
        if sweeps.is_over(found):
            raise RefusedError(
                f"the sweep {found.ref.path} is {found.state.lower()}: it hands out no more runs. To let it go on, "
                f"resume it: `{_AT_SERVER if offline else ''}wandb sweep --resume {found.ref.path}`"
            )
        left, sweep_config = found.runs_left, found.config
        told = names.doubts(sweep_config, found.ref.path, needs_program=function is None)
    else:
        left, sweep_config, told = names.grid_size(source.config), source.config, source.warnings

    def default_array(spec: SubmissionSpec) -> ArraySpec:
        array = _default_array(spec, None if left is None else -(-left // spec.agents_per_task))
        notes.append(f"--array was not given: {counted(array.count, 'array task')}")
        return array

    def default_gpus(spec: SubmissionSpec) -> int | None:
        if not visible_gpus(only=spec.gpus).gpus:
            return None
        agents = spec.agents_per_task
        shared = f", shared by its {agents} agents ({agents}: one for each agent)" if agents > 1 else ""
        notes.append(f"--gpus-per-task was not given: each task gets one GPU{shared} (0: none)")
        return 1

    build = functools.partial(
        config.build_spec,
        workdir=current_folder(),
        pick_executor=catalog.pick,
        default_array=default_array,
        default_gpus=default_gpus,
        function=None if pickled is None else pickled.preload,
    )

    def checked(asked: Options) -> SubmissionSpec:
        # A template by itself is judged for the executor that was typed.
        spec = build({**asked, "executor": options.get("executor")})
        interpreter.check(spec)
        return spec

    try:
        spec = checked(options)
    except ConfigError as error:
        raise blame.named(error, options, checked) from error
    if isinstance(source, names.SweepFile):
        preloads.check(spec, source.config)
    if pickled is None and (reason := why_cold(spec.preload, sweep_config)):
        notes.append(f"--preload: runs will start cold: {reason}")
    if left is not None and spec.agents > left:
        notes.append(
            f"the sweep has {counted(left, 'run')} left, so that {spec.agents - left} of the agents will find none"
        )
    paths = SubmissionPaths(home() / records.new_id())
    if odd := set("%\\\n") & set(str(paths.folder)):
        raise ConfigError(
            f"{str(paths.folder)!r} has {' and '.join(map(repr, sorted(odd)))} in its path, which sbatch and submitit "
            "do not take as it is: submit from another folder, or name one in WANDB_SUBMIT_DIR"
        )
    executor = catalog.load_executor(spec.executor)
    plan = executor.plan(spec, paths)
    if found is not None:
        plan = plan.for_sweep(found.ref.id)
    if offline and not dry_run:
        node = executor.a_node()
        notes += endpoints.words_on_server(node)
    return Prepared(
        source=source,
        sweep=found,
        spec=spec,
        executor=executor,
        plan=plan,
        paths=paths,
        offline=offline,
        node=node,
        function=pickled,
        notes=(*notes, *plan.notes),
        warnings=told,
        clip=clip,
    )


@_no_server_for_nothing()
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


def _a_node(options: Options) -> str | None:
    return catalog.load_executor(catalog.pick(config.executor_asked_for(options))).a_node()


def _default_array(spec: SubmissionSpec, left: int | None) -> ArraySpec:
    """As many tasks as there are devices here, or a few on a cluster; never more than can have a run."""
    bounds = [] if left is None else [left]
    if spec.executor != "local":
        bounds.append(_SLURM_ARRAY)
    if spec.executor == "local" and spec.gpus_per_task:
        bounds.append(len(visible_gpus(only=spec.gpus).gpus) // spec.gpus_per_task)
    if spec.executor == "local" and (spec.cpus_per_task or not spec.gpus_per_task):
        bounds.append(len(usable_cores()) // (spec.cpus_per_task or 1))
    return ArraySpec(count=max(min(bounds), 1))


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
            raise unwritable(paths.folder, error, records.ELSEWHERE) from error
        raise
