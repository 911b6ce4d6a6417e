"""Array tasks on a Slurm cluster, submitted through submitit."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from submitit.core import utils
from submitit.core.core import Job
from submitit.slurm.slurm import SlurmExecutor as SubmititSlurmExecutor
from submitit.slurm.slurm import SlurmJob

from wandb_submit import activation, process
from wandb_submit.errors import RefusedError, UnavailableError
from wandb_submit.executors import slurm_cli, slurm_site
from wandb_submit.executors.base import ANY_NUMBER, NO_LIMIT_MIN, Plan, TaskStatus
from wandb_submit.paths import SubmissionPaths
from wandb_submit.specs import SubmissionSpec
from wandb_submit.states import TaskState

if TYPE_CHECKING:
    from wandb_submit.agent.task import AgentTask

# A slow slurmctld answers within its MessageTimeout (10 s by default, often raised) or not at all.
_TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SlurmPlan:
    """One sbatch script for one job array."""

    spec: SubmissionSpec
    script: str
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many array tasks there are."""
        return self.spec.array.count

    def render(self) -> str:
        """The sbatch script."""
        return self.script

    def resources(self) -> Mapping[str, object]:
        """What each task asked Slurm for."""
        spec = self.spec
        asked = {
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
        return shlex.join(process.python_argv("submitit.core._submit", str(self.folder)))

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
            answer = _sbatch(text, "--parsable", str(script))
        except BaseException:
            for path in (script, *pickles):
                path.unlink(missing_ok=True)
            raise
        array_id = answer.strip().splitlines()[-1].partition(";")[0]  # `ID;CLUSTER` on a federation
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
    """Runs array tasks as one Slurm job array."""

    name: ClassVar[str] = "slurm"

    def __init__(self) -> None:
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise RefusedError(
                "no Slurm here (sbatch and srun are not on PATH): submit from a login node, "
                "or use --executor local to run on this machine"
            )

    def a_node(self) -> str | None:
        """The address by which Slurm reaches its first node."""
        answer = process.run(slurm_cli.NODES_ARGV, timeout_s=_TIMEOUT_S)
        if answer.returncode != 0 or not answer.stdout.strip():
            raise UnavailableError(f"sinfo failed: {answer.stderr.strip() or 'it names no node'}")
        return answer.stdout.split()[0]

    def plan(self, spec: SubmissionSpec, paths: SubmissionPaths) -> SlurmPlan:
        """Renders the sbatch script."""
        partitions = spec.sbatch.get("partition")
        late = slurm_site.too_long(spec.time_min, partitions) if spec.time_min is not None else None
        return SlurmPlan(
            spec=spec, script=_submitit(spec, paths).script(spec.array.count), notes=(late,) if late else ()
        )

    def check(self, plan: Plan) -> None:
        """Lets sbatch validate the script without submitting it."""
        assert isinstance(plan, SlurmPlan)  # noqa: S101 the plan came from this class
        _sbatch(plan.script, "--test-only", stdin=plan.script)

    def submit(self, plan: Plan, tasks: Sequence[AgentTask], paths: SubmissionPaths) -> list[str]:
        """Submits the array with one sbatch call."""
        assert isinstance(plan, SlurmPlan)  # noqa: S101 the plan came from this class
        activation.write_python(plan.spec.activation, paths)
        return [str(job.job_id) for job in _submitit(plan.spec, paths).submit_array(list(tasks))]

    def abandon(self, paths: SubmissionPaths) -> None:
        """Cancels the array by its name: its id may not have reached us."""
        process.run(["scancel", f"--user={getpass.getuser()}", f"--name={_job_name(paths)}"], timeout_s=_TIMEOUT_S)

    def states(self, jobs: Sequence[str], paths: SubmissionPaths) -> list[TaskStatus]:
        """Asks squeue once, and sacct once for what squeue has forgotten."""
        known = _ask_squeue(jobs)
        forgotten = [job for job in jobs if job not in known]
        if forgotten:
            known |= {job: status for job, status in _ask_sacct(forgotten).items() if job not in known}
        return [known.get(job) or _from_files(job, paths) for job in jobs]

    def cancel(self, jobs: Sequence[str], paths: SubmissionPaths) -> None:
        """Cancels the array."""
        answer = process.run(slurm_cli.scancel_argv(jobs), timeout_s=_TIMEOUT_S)
        if answer.returncode != 0 and "invalid job id" not in answer.stderr.lower():
            raise UnavailableError(f"scancel failed: {answer.stderr.strip()}")


def _job_name(paths: SubmissionPaths) -> str:
    return f"wandb-submit-{paths.id}"


def _submitit(spec: SubmissionSpec, paths: SubmissionPaths) -> ArrayExecutor:
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
    gpus = f"{spec.gpu_type}:{spec.gpus_per_task}" if spec.gpu_type else spec.gpus_per_task
    executor.update_parameters(
        job_name=_job_name(paths),
        time=spec.time_min,
        nodes=1,
        ntasks_per_node=1,
        cpus_per_task=spec.cpus_per_task,
        gpus_per_task=gpus or None,
        array_parallelism=spec.array.at_once,
        signal_delay_s=spec.signal_delay_s,
        wckey=None,  # submitit's default is a key that most sites do not have
        additional_parameters=further,
        setup=_setup(spec, paths) or None,
        teardown=_teardown(spec) or None,
    )
    return executor


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


def _sbatch(script: str, *arguments: str, stdin: str | None = None) -> str:
    """Calls sbatch for a script; returns what it printed."""
    environment = slurm_cli.sbatch_environment(os.environ, script)
    answer = process.run(["sbatch", *arguments], timeout_s=_TIMEOUT_S, stdin=stdin, env=environment)
    if answer.returncode != 0:
        partitions = re.search(r"^#SBATCH --partition=(\S+)$", script, re.MULTILINE)
        raise slurm_cli.refusal(
            answer.stderr or answer.stdout,
            lambda topic: slurm_site.choices(topic, partitions[1] if partitions else None),
        )
    return answer.stdout


def _ask_squeue(jobs: Sequence[str]) -> dict[str, TaskStatus]:
    answer = process.run(slurm_cli.squeue_argv(jobs), timeout_s=_TIMEOUT_S)
    if answer.returncode != 0:
        if "invalid job id" in answer.stderr.lower():  # all of them left long ago
            return {}
        raise UnavailableError(f"squeue failed: {answer.stderr.strip() or answer.stdout.strip()}")
    return slurm_cli.parse_squeue(answer.stdout)


def _ask_sacct(jobs: Sequence[str]) -> dict[str, TaskStatus]:
    """Asks the accounting, which many small clusters do not have; then the tasks' own files have to do."""
    try:
        environment = {**os.environ, "SLURM_BITSTR_LEN": "0"}  # lists of tasks whole
        answer = process.run(slurm_cli.sacct_argv(jobs), timeout_s=_TIMEOUT_S, env=environment)
    except RefusedError:
        return {}
    return slurm_cli.parse_sacct(answer.stdout) if answer.returncode == 0 else {}


def _from_files(job: str, paths: SubmissionPaths) -> TaskStatus:
    """What the task's result file tells, where Slurm remembers nothing."""
    found = utils.JobPaths(paths.jobs, job_id=job)
    if not Path(found.result_pickle).exists():
        return TaskStatus(state=TaskState.CANCELLED, detail="Slurm has no record of it, and it left no result")
    outcome, _ = utils.pickle_load(found.result_pickle)
    return TaskStatus(state=TaskState.COMPLETED if outcome == "success" else TaskState.FAILED)
