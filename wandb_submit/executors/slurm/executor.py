"""Array tasks on a Slurm cluster, submitted through submitit."""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from submitit.core import utils
from submitit.core.core import Job
from submitit.slurm.slurm import SlurmExecutor as SubmititSlurmExecutor
from submitit.slurm.slurm import SlurmJob

from wandb_submit.errors import RefusedError, UnavailableError
from wandb_submit.executors import activation
from wandb_submit.executors.base import ANY_NUMBER, NO_LIMIT_MIN, Plan, TaskRef, TaskStatus
from wandb_submit.executors.slurm import cli, sbatch, time
from wandb_submit.executors.slurm import site as slurm_site
from wandb_submit.executors.slurm import states as slurm_states
from wandb_submit.executors.slurm.refusals import LimitError, NoNodeError, away, slurms_words
from wandb_submit.options import ranks
from wandb_submit.spec import DEFAULT_GRACE_S, ArraySpec, SubmissionSpec
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.system import process

if TYPE_CHECKING:
    from wandb_submit.agent.task import AgentTask

# A slow slurmctld answers within its MessageTimeout (10 s by default, often raised) or not at all.
_TIMEOUT_S = 120.0
NO_SWEEP_YET = "SWEEP_ID"  # what a dry run calls the jobs of a sweep that is not created


@dataclass(frozen=True, kw_only=True, slots=True)
class SlurmPlan:
    """One sbatch script for each job array; of several, none is larger than the first."""

    spec: SubmissionSpec
    arrays: tuple[ArraySpec, ...]
    scripts: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many array tasks there are."""
        return self.spec.array.count

    def for_sweep(self, sweep_id: str) -> SlurmPlan:
        """The same plan; its jobs are called like the sweep, unless a name was asked for."""
        if self.spec.job_name is not None:
            return self
        scripts = tuple(script.replace(_named(NO_SWEEP_YET), _named(sweep_id), 1) for script in self.scripts)
        return dataclasses.replace(self, spec=dataclasses.replace(self.spec, job_name=sweep_id), scripts=scripts)

    def render(self) -> str:
        """The sbatch scripts."""
        return "\n".join(self.scripts)

    def details(self) -> Mapping[str, object]:
        """The sbatch scripts, one for each array."""
        return {"scripts": list(self.scripts)}

    def resources(self) -> Mapping[str, object]:
        """What each task asked Slurm for."""
        spec = self.spec
        asked = {
            "nodes": spec.ranks.nodes if spec.ranks else None,
            "ranks_per_node": spec.ranks.per_node if spec.ranks else None,
            "gpus_per_task": spec.gpus_per_task,
            "gpu_type": spec.gpu_type,
            "cpus_per_task": spec.cpus_per_task,
            "mem": spec.mem,
            "time_min": spec.time_min,
            **spec.sbatch,
        }
        return {key: value for key, value in asked.items() if value is not None}


class ArrayExecutor(SubmititSlurmExecutor):
    """submitit's executor, for one array of any size.

    Four things differ from the parent: one task is an array too, so that every task has an `ARRAY_TASK` id; a
    task without `--time` gets the partition's limit instead of submitit's five minutes; the job does not import
    from the user's folder; and sbatch is called with a timeout, its refusal becomes one of our errors, and leaves
    no pickles behind.
    """

    @property
    def _submitit_command_str(self) -> str:
        return shlex.join(process.python_argv("wandb_submit.executors.task_program", str(self.folder)))

    def _internal_process_submissions(self, delayed_submissions: list[Any]) -> list[Job[Any]]:
        folder = utils.JobPaths.get_first_id_independent_folder(self.folder)
        script = folder / f".submission_{uuid.uuid4().hex}.sh"
        pickles = [folder / f"{uuid.uuid4().hex}.pkl" for _ in delayed_submissions]
        try:
            for delayed, pickle in zip(delayed_submissions, pickles, strict=True):
                delayed.set_timeout(self.parameters.get("time") or NO_LIMIT_MIN, self.max_num_timeout)
                delayed.dump(pickle)
            text = self.script(len(delayed_submissions))
            script.write_text(text)
            array_id = cli.parse_sbatch(sbatch.call(text, "--parsable", str(script)))
        except BaseException:
            for path in (script, *pickles):
                path.unlink(missing_ok=True)
            raise
        jobs: list[Job[Any]] = [
            SlurmJob(folder=self.folder, job_id=f"{array_id}_{task}") for task in range(len(pickles))
        ]
        for job, pickle in zip(jobs, pickles, strict=True):
            job.paths.move_temporary_file(pickle, "submitted_pickle")
        jobs[0].paths.move_temporary_file(script, "submission_file")
        return jobs

    def script(self, count: int) -> str:
        """The sbatch script of an array of that many tasks."""
        self.parameters["map_count"] = count
        return str(self._make_submission_file_text(self._submitit_command_str, uid=""))


class SlurmExecutor:
    """Runs array tasks as a Slurm job array, or as several where the site's arrays are small."""

    name: ClassVar[str] = "slurm"

    def __init__(self) -> None:
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise RefusedError(
                "no Slurm here (sbatch and srun are not on PATH): submit from a login node, "
                "or use --executor local to run on this machine"
            )

    def a_node(self) -> str | None:
        """The address by which Slurm reaches its first node."""
        answer = process.run(cli.NODES_ARGV, timeout_s=_TIMEOUT_S, env=cli.plain_environment(os.environ))
        if answer.returncode != 0:
            raise away(slurms_words(answer.stderr))
        if not answer.stdout.strip():
            raise RefusedError("sinfo names no node that you may see: see `wandb-submit doctor`")
        return answer.stdout.split()[0]

    def plan(self, spec: SubmissionSpec, paths: SubmissionPaths) -> SlurmPlan:
        """Renders the sbatch scripts."""
        site = slurm_site.settings() if spec.array.count > 1 or spec.grace_s > DEFAULT_GRACE_S else ""
        arrays = split(spec.array, cli.parse_max_array_size(site) if spec.array.count > 1 else None)
        notes = [*ranks.words(spec), *time.notes(spec)]
        kill_wait_s = cli.parse_kill_wait_s(site)
        if spec.grace_s > DEFAULT_GRACE_S and kill_wait_s is not None and spec.grace_s > kill_wait_s:
            notes.append(
                f"--grace {spec.grace_s:.0f}: when a task is cancelled, this site kills it {kill_wait_s} s "
                "after SIGTERM (KillWait); at its time limit runs have the whole grace"
            )
        if len(arrays) > 1:
            notes.append(f"{spec.array.count} array tasks are more than this site's MaxArraySize: {len(arrays)} arrays")
        scripts = tuple(_submitit(spec, array, paths).script(array.count) for array in arrays)
        return SlurmPlan(spec=spec, arrays=arrays, scripts=scripts, notes=tuple(notes))

    def check(self, plan: Plan) -> None:
        """Lets sbatch validate the first array, which none is larger than, without submitting it."""
        assert isinstance(plan, SlurmPlan)  # noqa: S101 the plan came from this class
        try:
            sbatch.test_only(plan.scripts[0])
        except LimitError as error:
            raise sbatch.too_many(error, sbatch.fitting(plan.scripts[0], plan.arrays[0].count)) from error
        except NoNodeError:
            # Of nodes that are all drained it says so, too, and yet sbatch takes the job, which waits for them.
            named = plan.spec.sbatch
            if not slurm_site.all_away(
                named.get("partition") or os.environ.get("SBATCH_PARTITION"), named.get("nodelist")
            ):
                raise

    def submit(
        self, plan: Plan, tasks: Sequence[AgentTask], paths: SubmissionPaths, keep: Callable[[Sequence[str]], None]
    ) -> None:
        """Submits each array with one sbatch call; all of them or none."""
        assert isinstance(plan, SlurmPlan)  # noqa: S101 the plan came from this class
        activation.write_python(plan.spec.activation, paths)
        jobs: list[str] = []
        for array, script in zip(plan.arrays, plan.scripts, strict=True):
            own = tasks[len(jobs) : len(jobs) + array.count]
            try:
                jobs += [str(job.job_id) for job in _submitit(plan.spec, array, paths).submit_array(list(own))]
            except RefusedError as error:
                more = sbatch.fitting(script, array.count) if isinstance(error, LimitError) else None
                if jobs:
                    self.abandon(paths)
                if more is None:
                    raise
                raise sbatch.too_many(error, len(jobs) + more) from error
        keep(jobs)

    def abandon(self, paths: SubmissionPaths) -> None:
        """Cancels the arrays whose script or log lies in the submission's folder: an id may not have reached us."""
        # A site's own sbatch may submit a copy of the script; the log's folder stays.
        look = ["squeue", "--noheader", f"--user={os.getuid()}", "--Format=ArrayJobID:20,Command:4096,STDOUT:4096"]
        try:
            if arrays := {line.split()[0] for line in _told(look).splitlines() if f" {paths.jobs}/" in line}:
                _told(["scancel", *sorted(arrays)])
        except UnavailableError as error:
            raise UnavailableError(
                f"what was submitted may wait in the queue and cannot be cancelled ({error}): when Slurm answers "
                f"again, run `{shlex.join(look)}`, and `scancel` what lies in {paths.jobs}"
            ) from error

    def states(self, tasks: Sequence[TaskRef]) -> list[TaskStatus]:
        """Asks squeue once, and sacct once for what squeue has forgotten."""
        return slurm_states.ask(tasks)

    def cancel(self, jobs: Sequence[str], paths: SubmissionPaths, *, whole: bool = True) -> None:
        """Cancels whole arrays, or some of their tasks."""
        argv = cli.scancel_argv(jobs, whole=whole)
        answer = process.run(argv, timeout_s=_TIMEOUT_S, env=cli.plain_environment(os.environ))
        if answer.returncode != 0 and "invalid job id" not in answer.stderr.lower():
            raise UnavailableError(f"scancel failed: {slurms_words(answer.stderr)}")


def _named(job: str) -> str:
    return f"#SBATCH --job-name={job}\n"


def _told(argv: list[str]) -> str:
    """What one of Slurm's commands prints.

    Raises:
        UnavailableError: if it fails.
    """
    answer = process.run(argv, timeout_s=_TIMEOUT_S, env=cli.plain_environment(os.environ))
    if answer.returncode != 0:
        raise UnavailableError(f"{argv[0]} failed: {slurms_words(answer.stderr)}")
    return answer.stdout


def _submitit(spec: SubmissionSpec, array: ArraySpec, paths: SubmissionPaths) -> ArrayExecutor:
    # Without submitit's %j in the folder: Slurm fails a task (0:53) whose log folder does not exist when it
    # starts, and one folder per task could be made only after sbatch has told the job's id.
    executor = ArrayExecutor(folder=paths.jobs, max_num_timeout=ANY_NUMBER)
    further: dict[str, object] = {key: True if value is None else value for key, value in spec.sbatch.items()}
    if "no-requeue" not in further:
        further.setdefault("requeue", True)  # some sites have JobRequeue=0
    if spec.mem is not None:
        further["mem"] = spec.mem  # as it was typed; submitit knows only gigabytes
    if spec.time is not None:
        further["time"] = spec.time
    executor.update_parameters(
        job_name=spec.job_name or NO_SWEEP_YET,
        time=spec.time_min,
        **_shape(spec),
        array_parallelism=array.at_once,
        signal_delay_s=spec.signal_delay_s,
        stderr_to_stdout=True,  # one log, in the order of time
        wckey=None,  # submitit's default is a key that most sites do not have
        additional_parameters=further,
        setup=_setup(spec, paths) or None,
        teardown=_teardown(spec) or None,
    )
    return executor


def _shape(spec: SubmissionSpec) -> dict[str, object]:
    """The nodes of a task, what srun may start on them, and their GPUs and cores.

    Slurm's tasks are the ranks; the agent is one task of a step of its own, on the first node, with as many cores as
    a rank. It shares them with the ranks of its runs, whose steps overlap with every other one.
    """
    gpus = f"{spec.gpu_type}:{spec.gpus_per_task}" if spec.gpu_type else spec.gpus_per_task
    if spec.ranks is None:
        per_task = {"cpus_per_task": spec.cpus_per_task, "gpus_per_task": gpus or None}
        return {"nodes": 1, "ntasks_per_node": 1, **per_task}
    return {
        "nodes": spec.ranks.nodes,
        "ntasks_per_node": spec.ranks.per_node,
        "cpus_per_task": spec.cpus_per_task // spec.ranks.per_node if spec.cpus_per_task else None,
        "gpus_per_node": gpus or None,
        "srun_args": ["--nodes=1", "--ntasks=1", "--ntasks-per-node=1", "--relative=0"],
    }


def _setup(spec: SubmissionSpec, paths: SubmissionPaths) -> list[str]:
    """What the batch script does before its srun."""
    # Since Slurm 22.05 srun does not take the job's --cpus-per-task over by itself.
    lines = ["export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"] if spec.cpus_per_task else []
    if spec.activation:
        # With `sbatch --export=NONE`, which some sites set for all, srun would keep to itself what is set here.
        lines += ["export SLURM_EXPORT_ENV=ALL", *activation.lines_before(spec.activation, paths)]
    if spec.activation.teardown:
        lines.append("trap : TERM")  # a cancelled task's shell gets it, too, and would end before the teardown
    return lines


def _teardown(spec: SubmissionSpec) -> list[str]:
    """What the batch script does after its srun, whose exit status stays the job's."""
    lines = activation.lines_after(spec.activation)
    return ["ended=$?", *lines, 'exit "$ended"'] if lines else []


def split(array: ArraySpec, most: int | None) -> tuple[ArraySpec, ...]:
    """Splits an array into ones that are no larger than the site allows, which share the tasks at a time out.

    Raises:
        RefusedError: if there would be arrays without a task at a time.
    """
    if most is None or array.count <= most:
        return (array,)
    number = -(-array.count // most)
    if array.at_once < number:
        raise RefusedError(
            f"--array {array}: this site's MaxArraySize is {most}, so that these are {number} arrays, and each runs "
            f"at least one task at a time: --array {array.count}%{number} or more, or --array {most}%{array.parallel}"
        )

    def share(whole: int, place: int) -> int:
        return whole // number + (place < whole % number)

    parallel = array.parallel
    return tuple(
        ArraySpec(count=share(array.count, place), parallel=None if parallel is None else share(parallel, place))
        for place in range(number)
    )
