"""Preparing a submission: from what was asked for to a plan that can be shown or sent, with nothing left behind."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from wandb_submit.agent.runs import interpreter
from wandb_submit.agent.runs.launcher import why_cold
from wandb_submit.devices import usable_cores, visible_gpus
from wandb_submit.errors import ConfigError, RefusedError
from wandb_submit.executors import catalog
from wandb_submit.executors.base import Executor, Plan
from wandb_submit.options import blame, keywords
from wandb_submit.options.build import build_spec, executor_asked_for
from wandb_submit.options.table import Options
from wandb_submit.spec import ArraySpec, SubmissionSpec
from wandb_submit.store import record as records
from wandb_submit.store.paths import SubmissionPaths, current_folder, home
from wandb_submit.submission import endpoints, preloads
from wandb_submit.submission.function import Function
from wandb_submit.text import counted
from wandb_submit.wandb_api import names, sweeps

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


@endpoints.no_server_for_nothing()
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
    found: sweeps.Sweep | None = None
    node: str | None = None
    if isinstance(source, names.SweepName):
        node = _a_node(options) if offline and not dry_run else None
        found = _find(source, offline=offline, start=not dry_run, node=node)
        left, sweep_config = found.runs_left, found.config
        warnings = names.doubts(sweep_config, found.ref.path, needs_program=function is None)
    else:
        left, sweep_config, warnings = names.grid_size(source.config), source.config, source.warnings
    defaults = _Defaults(left=left)
    spec = _checked(options, defaults, pickled)
    if isinstance(source, names.SweepFile):
        preloads.check(spec, source.config)
    notes = [*defaults.notes, *_doubts(spec, left, None if pickled else sweep_config)]
    paths = _new_paths()
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
        warnings=warnings,
        clip=clip,
    )


def _find(name: names.SweepName, *, offline: bool, start: bool, node: str | None) -> sweeps.Sweep:
    """Looks a sweep up that is to hand out runs."""
    found = endpoints.find(name, offline=offline, start=start, node=node)
    if sweeps.is_over(found):
        raise RefusedError(
            f"the sweep {found.ref.path} is {found.state.lower()}: it hands out no more runs. To let it go on, "
            f"resume it: `{_AT_SERVER if offline else ''}wandb sweep --resume {found.ref.path}`"
        )
    return found


def _a_node(options: Options) -> str | None:
    return catalog.load_executor(catalog.pick(executor_asked_for(options))).a_node()


@dataclass(kw_only=True, slots=True)
class _Defaults:
    """What is filled in for options that were not given.

    Attributes:
        left: how many runs the sweep has left; `None` if that has no bound.
        notes: what was filled in, for the person.
    """

    left: int | None
    notes: list[str] = field(default_factory=list)

    def array(self, spec: SubmissionSpec) -> ArraySpec:
        """As many tasks as there are devices here, or a few on a cluster; never more than can have a run."""
        bounds = [] if self.left is None else [-(-self.left // spec.agents_per_task)]
        if spec.executor != "local":
            bounds.append(_SLURM_ARRAY)
        if spec.executor == "local" and spec.gpus_per_task:
            bounds.append(len(visible_gpus(only=spec.gpus).gpus) // spec.gpus_per_task)
        if spec.executor == "local" and (spec.cpus_per_task or not spec.gpus_per_task):
            bounds.append(len(usable_cores()) // (spec.cpus_per_task or 1))
        count = max(min(bounds), 1)
        self.notes.append(f"--array was not given: {counted(count, 'array task')}")
        return ArraySpec(count=count)

    def gpus(self, spec: SubmissionSpec) -> int | None:
        """One GPU for each task of a workstation that has any."""
        if not visible_gpus(only=spec.gpus).gpus:
            return None
        agents = spec.agents_per_task
        shared = f", shared by its {agents} agents ({agents}: one for each agent)" if agents > 1 else ""
        self.notes.append(f"--gpus-per-task was not given: each task gets one GPU{shared} (0: none)")
        return 1


def _checked(options: Options, defaults: _Defaults, function: Function | None) -> SubmissionSpec:
    build = functools.partial(
        build_spec,
        workdir=current_folder(),
        pick_executor=catalog.pick,
        default_array=defaults.array,
        default_gpus=defaults.gpus,
        function=None if function is None else function.preload,
    )

    def checked(asked: Options) -> SubmissionSpec:
        # A template by itself is judged for the executor that was typed.
        spec = build({**asked, "executor": options.get("executor")})
        interpreter.check(spec)
        return spec

    try:
        return checked(options)
    except ConfigError as error:
        raise blame.named(error, options, checked) from error


def _doubts(spec: SubmissionSpec, left: int | None, config: Mapping[str, Any] | None) -> Iterator[str]:
    """What of the options may not come out as it was meant.

    Args:
        spec: what was asked for.
        left: how many runs the sweep has left.
        config: the sweep's configuration; `None` where runs call a function.
    """
    if config is not None and (reason := why_cold(spec.preload, config)):
        yield f"--preload: runs will start cold: {reason}"
    if left is not None and spec.agents > left:
        yield f"the sweep has {counted(left, 'run')} left, so that {spec.agents - left} of the agents will find none"


def _new_paths() -> SubmissionPaths:
    paths = SubmissionPaths(home() / records.new_id())
    if odd := set("%\\\n") & set(str(paths.folder)):
        raise ConfigError(
            f"{str(paths.folder)!r} has {' and '.join(map(repr, sorted(odd)))} in its path, which sbatch and submitit "
            "do not take as it is: submit from another folder, or name one in WANDB_SUBMIT_DIR"
        )
    return paths
