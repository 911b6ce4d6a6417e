"""The Slurm executor against programs that stand for Slurm's."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from submitit.core import utils
from unit.conftest import Program

from wandb_submit.agent.task import AgentTask
from wandb_submit.errors import RefusedError, UnavailableError
from wandb_submit.executors.activation import _WATCH_SETUP
from wandb_submit.executors.base import TaskRef, TooManyTasksError
from wandb_submit.executors.catalog import pick
from wandb_submit.executors.slurm import states as slurm_states
from wandb_submit.executors.slurm.executor import SlurmExecutor, split
from wandb_submit.executors.states import TaskState
from wandb_submit.options.build import build_spec
from wandb_submit.options.table import Options
from wandb_submit.spec import Activation, ArraySpec, Endpoint, SubmissionSpec, SweepRef
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.system.process import python_argv

SWEEP = SweepRef(entity="me", project="vision", id="k3f9", base_url="https://api.wandb.ai")


@pytest.fixture
def paths(tmp_path: Path) -> SubmissionPaths:
    """A submission in a folder that a shell would take apart."""
    folder = tmp_path / """it's "my" $HOME; `id` \N{LATIN SMALL LETTER E WITH ACUTE}""" / "abc234"
    (folder / "jobs").mkdir(parents=True)
    return SubmissionPaths(folder)


@pytest.fixture
def slurm(program: Program) -> SlurmExecutor:
    program("sbatch", "exit 99")
    program("srun", "exit 99")
    program("sinfo", "exit 1")
    program("scontrol", "exit 1")
    return SlurmExecutor()


def spec(**changes: Any) -> SubmissionSpec:
    return SubmissionSpec(**{"executor": "slurm", "array": ArraySpec(count=1), "workdir": Path("/w"), **changes})


def tasks(paths: SubmissionPaths, count: int) -> list[AgentTask]:
    endpoint = Endpoint(base_url=SWEEP.base_url)
    return [
        AgentTask(sweep=SWEEP, endpoint=endpoint, folder=paths.folder, index=index, spec=spec())
        for index in range(count)
    ]


def refs(paths: SubmissionPaths, *jobs: str) -> list[TaskRef]:
    return [TaskRef(paths=paths, index=index, job=job) for index, job in enumerate(jobs)]


def lines_after(script: str, heading: str) -> list[str]:
    return script.partition(f"\n# {heading}\n")[2].partition("\n\n")[0].splitlines()


def test_without_slurm_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RefusedError, match="--executor local"):
        SlurmExecutor()


def test_the_script_of_a_dry_run_is_the_whole_script(slurm: SlurmExecutor, paths: SubmissionPaths) -> None:
    asked = spec(
        array=ArraySpec(count=4, parallel=2),
        gpus_per_task=1,
        cpus_per_task=8,
        mem="16G",
        time_min=240,
        sbatch={"partition": "gpu", "exclusive": None, "comment": "it's mine"},
    )
    jobs = str(paths.jobs)
    log = f"{jobs}/%A_%a_"
    assert (
        slurm.plan(asked, paths).render()
        == f"""\
#!/bin/bash

# Parameters
#SBATCH --array=0-3%2
#SBATCH --comment={shlex.quote("it's mine")}
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --gpus-per-task=1
#SBATCH --job-name=SWEEP_ID
#SBATCH --mem=16G
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output={shlex.quote(log + "0_log.out")}
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=240

# setup
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output {shlex.quote(log + "%t_log.out")} \
{shlex.join(python_argv("wandb_submit.executors.task_program", jobs))}
"""
    )


def test_the_script_activates_before_srun_and_keeps_its_exit_status(
    slurm: SlurmExecutor, paths: SubmissionPaths
) -> None:
    active = Activation(
        env={"NAME": "it's"}, setup=("module load cuda",), teardown=("rm -r $TMP",), python="/opt/env/bin/python"
    )
    script = slurm.plan(spec(activation=active), paths).render()
    assert lines_after(script, "setup") == [
        "export SLURM_EXPORT_ENV=ALL",
        "export NAME='it'\"'\"'s'",
        *_WATCH_SETUP,
        "module load cuda",
        "setup_ended $? 1",
        "setup_at=",
        "set +eu",
        "# `python` is /opt/env/bin/python",
        "export PATH=/opt/env/bin:$PATH",
        "trap : TERM",
    ]
    command, _, after = script.partition("\n# command\n")[2].partition("\n\n\n# teardown\n")
    assert command.splitlines()[1].startswith("srun ")
    assert after.splitlines() == ["ended=$?", "rm -r $TMP", 'exit "$ended"']


def test_what_is_not_asked_for_is_not_in_the_script(slurm: SlurmExecutor, paths: SubmissionPaths) -> None:
    script = slurm.plan(spec(), paths).render()
    options = [line.removeprefix("#SBATCH --").partition("=")[0] for line in lines_after(script, "Parameters")]
    assert options == [*("array", "job-name", "nodes", "ntasks-per-node", "open-mode", "output", "requeue", "signal")]
    assert "# setup" not in script


def test_one_task_is_an_array_too(slurm: SlurmExecutor, paths: SubmissionPaths) -> None:
    assert "#SBATCH --array=0-0%1" in slurm.plan(spec(), paths).render()


def test_no_gpus_are_asked_for_by_no_option(slurm: SlurmExecutor, paths: SubmissionPaths) -> None:
    assert "--gpu" not in slurm.plan(spec(gpus_per_task=0), paths).render()


def test_what_is_typed_in_slurms_formats_reaches_sbatch_as_it_is(
    slurm: SlurmExecutor, paths: SubmissionPaths, tmp_path: Path
) -> None:
    options = Options(
        executor="slurm",
        array="0-15%4",
        gpus_per_task="a100:1",
        time="1-02:00:00",
        mem="16G",
        constraint="a|b&c",
        gres="gpu:a100:1",
        nodelist="n[1-3]",
    )
    asked = build_spec(options, workdir=tmp_path, pick_executor=pick, default_array=lambda *_: ArraySpec(count=1))
    parameters = lines_after(slurm.plan(asked, paths).render(), "Parameters")
    assert {
        "#SBATCH --array=0-15%4",
        "#SBATCH --gpus-per-task=a100:1",
        "#SBATCH --time=1-02:00:00",
        "#SBATCH --mem=16G",
        "#SBATCH --constraint='a|b&c'",
        "#SBATCH --gres=gpu:a100:1",
        "#SBATCH --nodelist='n[1-3]'",
    } <= set(parameters)


def test_who_wants_no_requeue_gets_none(slurm: SlurmExecutor, paths: SubmissionPaths) -> None:
    parameters = lines_after(slurm.plan(spec(sbatch={"no-requeue": None}), paths).render(), "Parameters")
    assert "#SBATCH --no-requeue" in parameters
    assert "#SBATCH --requeue" not in parameters


def test_a_plan_leaves_nothing_on_disk(slurm: SlurmExecutor, paths: SubmissionPaths) -> None:
    slurm.plan(spec(), paths).render()
    assert list(paths.jobs.iterdir()) == []


def test_a_check_gives_sbatch_the_very_script(
    slurm: SlurmExecutor, program: Program, paths: SubmissionPaths, tmp_path: Path
) -> None:
    program("sbatch", f'echo "$@" > "{tmp_path}/argv"; cat > "{tmp_path}/stdin"')
    plan = slurm.plan(spec(), paths)
    slurm.check(plan)
    assert (tmp_path / "argv").read_text() == "--test-only\n"
    assert (tmp_path / "stdin").read_text() == plan.render()


def test_what_is_submitted_is_what_the_dry_run_showed(
    slurm: SlurmExecutor, program: Program, paths: SubmissionPaths, tmp_path: Path
) -> None:
    program("sbatch", f'cp "$2" "{tmp_path}/script"; echo "77;cluster"')
    plan = slurm.plan(spec(array=ArraySpec(count=3, parallel=2)), paths)
    jobs: list[str] = []
    slurm.submit(plan, tasks(paths, 3), paths, jobs.extend)
    assert jobs == ["77_0", "77_1", "77_2"]
    assert (tmp_path / "script").read_text() == plan.render()
    assert sorted(path.name for path in paths.jobs.iterdir()) == [
        *(f"77_{task}_submitted.pkl" for task in range(3)),
        "77_submission.sh",
    ]


@pytest.mark.parametrize(
    ("words", "error"),
    [("Invalid partition name specified", RefusedError), ("Unable to contact slurm controller", UnavailableError)],
)
def test_a_submission_that_fails_leaves_no_files(
    words: str, error: type[Exception], slurm: SlurmExecutor, program: Program, paths: SubmissionPaths
) -> None:
    program("sbatch", f"echo 'sbatch: error: Batch job submission failed: {words}' >&2; exit 1")
    with pytest.raises(error, match=words):
        slurm.submit(slurm.plan(spec(), paths), tasks(paths, 1), paths, [].extend)
    assert list(paths.jobs.iterdir()) == []


# An sbatch that takes arrays of up to 5 tasks and 12 in all, and writes down what it is asked.
SBATCH = """
echo "$@" >>"{log}"
case "$1" in
  --test-only) test -n "$2" && last=${{2#--array=0-}} || last=$(sed -n "s/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p") ;;
  *) last=$(sed -n "s/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p" "$2") ;;
esac
there=$(cat "{queued}")
if [ $((there + last + 1)) -gt {most} ]; then
  echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2
  echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy" >&2
  exit 1
fi
[ "$1" = --test-only ] && exit
echo $((there + last + 1)) >"{queued}"
echo $((100 + there))
"""


class Site:
    """Programs that stand for a site with small arrays and a limit on jobs."""

    def __init__(self, program: Program, folder: Path, *, most: int, scancel: str = "echo 0 >{queued}") -> None:
        self.log, self.queued, self.cancelled = (folder / name for name in ("log", "queued", "cancelled"))
        self.queued.write_text("0\n")
        program("sbatch", SBATCH.format(log=self.log, queued=self.queued, most=most))
        program("scontrol", "echo 'MaxArraySize            = 5'")
        (jobs,) = folder.glob("*/abc234/jobs")
        (folder / "queue").write_text(
            f"9    /elsewhere/jobs/s.sh    /elsewhere/jobs/%A.out\n100  /tmp/copy.sh  {jobs}/%A.out\n"
        )
        program("squeue", f"cat {folder}/queue")
        program("scancel", f'echo "$@" >>{self.cancelled}; {scancel.format(queued=self.queued)}')

    def asked(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.mark.parametrize(
    ("array", "most", "arrays"),
    [
        ("12", 5, ["4", "4", "4"]),
        ("13", 5, ["5", "4", "4"]),
        ("13%7", 5, ["5%3", "4%2", "4%2"]),
        ("10%2", 5, ["5%1", "5%1"]),
        ("5%2", 5, ["5%2"]),
        ("1000%999", 1001, ["1000%999"]),
        ("1000", None, ["1000"]),
    ],
)
def test_a_large_array_is_split_and_its_tasks_at_a_time_are_shared_out(
    array: str, most: int | None, arrays: list[str]
) -> None:
    assert [str(part) for part in split(ArraySpec.parse(array), most)] == arrays


def test_fewer_tasks_at_a_time_than_arrays_are_refused_with_what_would_do() -> None:
    with pytest.raises(RefusedError, match=r"--array 13%3 or more, or --array 5%2$"):
        split(ArraySpec.parse("13%2"), 5)


def test_each_array_of_a_split_submission_has_its_own_tasks(
    slurm: SlurmExecutor, program: Program, paths: SubmissionPaths, tmp_path: Path
) -> None:
    site = Site(program, tmp_path, most=100)
    plan = slurm.plan(spec(array=ArraySpec(count=12, parallel=6)), paths)
    assert plan.render().count("#SBATCH --array=0-3%2\n") == 3
    assert "12 array tasks are more than this site's MaxArraySize: 3 arrays" in plan.notes
    slurm.check(plan)
    jobs: list[str] = []
    slurm.submit(plan, tasks(paths, 12), paths, jobs.extend)
    assert jobs == [f"{array}_{task}" for array in (100, 104, 108) for task in range(4)]
    assert len(site.asked()) == 4
    pickled = [utils.DelayedSubmission.load(paths.jobs / f"{job}_submitted.pkl").function.index for job in jobs]
    assert pickled == list(range(12))


@pytest.mark.parametrize(("grace_s", "told"), [(90.0, True), (60.0, False), (29.0, False), (121.0, True)])
def test_a_grace_that_slurm_cuts_short_is_pointed_out(
    slurm: SlurmExecutor, program: Program, paths: SubmissionPaths, grace_s: float, told: bool
) -> None:
    program("scontrol", "echo 'KillWait                = 30 sec'")
    notes = slurm.plan(spec(grace_s=grace_s), paths).notes
    assert any(f"--grace {grace_s:.0f}" in note and "30 s after SIGTERM (KillWait)" in note for note in notes) is told


def test_a_grace_that_slurm_grants_is_no_matter(slurm: SlurmExecutor, program: Program, paths: SubmissionPaths) -> None:
    program("scontrol", "echo 'KillWait                = 300 sec'")
    assert slurm.plan(spec(grace_s=90.0), paths).notes == ()


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_limit_is_told_with_the_number_of_tasks_that_fit(
    slurm: SlurmExecutor, program: Program, paths: SubmissionPaths, tmp_path: Path, most: int
) -> None:
    Site(program, tmp_path, most=most)
    with pytest.raises(TooManyTasksError, match=rf"QOSMaxSubmitJobPerUserLimit.* Now {most} would be taken") as caught:
        slurm.check(slurm.plan(spec(array=ArraySpec(count=4)), paths))
    assert caught.value.fits == most


def test_where_not_one_task_fits_no_smaller_array_is_offered(
    slurm: SlurmExecutor, program: Program, paths: SubmissionPaths, tmp_path: Path
) -> None:
    Site(program, tmp_path, most=0)
    with pytest.raises(RefusedError, match="QOSMaxSubmitJobPerUserLimit") as caught:
        slurm.check(slurm.plan(spec(array=ArraySpec(count=4)), paths))
    assert not isinstance(caught.value, TooManyTasksError)


def test_an_array_that_is_refused_takes_the_ones_before_it_along(
    slurm: SlurmExecutor, program: Program, paths: SubmissionPaths, tmp_path: Path
) -> None:
    site = Site(program, tmp_path, most=11)
    plan = slurm.plan(spec(array=ArraySpec(count=15)), paths)
    slurm.check(plan)
    with pytest.raises(TooManyTasksError) as caught:
        slurm.submit(plan, tasks(paths, 15), paths, [].extend)
    assert caught.value.fits == 11
    assert site.cancelled.read_text().splitlines() == ["100"]


def test_what_cannot_be_taken_back_is_said_with_the_command_that_does(
    slurm: SlurmExecutor, program: Program, paths: SubmissionPaths, tmp_path: Path
) -> None:
    Site(program, tmp_path, most=11, scancel="echo 'scancel: error: Unable to contact slurm controller' >&2; exit 1")
    plan = slurm.plan(spec(array=ArraySpec(count=15)), paths)
    with pytest.raises(
        UnavailableError, match=r"Unable to contact.* run `squeue .*`, and `scancel` what lies in .*/abc234/jobs$"
    ):
        slurm.submit(plan, tasks(paths, 15), paths, [].extend)


def test_sacct_is_asked_for_what_squeue_has_forgotten(
    slurm: SlurmExecutor, program: Program, paths: SubmissionPaths
) -> None:
    program("squeue", "echo '7_1|RUNNING|gpu1|None'")
    program("sacct", "echo '7_0|COMPLETED|gpu2'; echo '7_1|PENDING|None assigned'")
    states = slurm.states(refs(paths, "7_0", "7_1"))
    assert [status.state for status in states] == [TaskState.COMPLETED, TaskState.RUNNING]


@pytest.mark.parametrize("sacct", ["", "echo '7_[0-3%1]|PENDING|None assigned'", "echo '7_0|RUNNING|gpu1'"])
def test_the_queue_is_believed_before_the_accounting(
    slurm: SlurmExecutor, program: Program, paths: SubmissionPaths, sacct: str
) -> None:
    """A task that is cancelled while it is pending leaves no record, or one that stays pending for ever."""
    program("squeue", "echo '7_1|RUNNING|gpu1|None'")
    program("sacct", sacct)
    (status, _) = slurm.states(refs(paths, "7_0", "7_1"))
    assert (status.state, status.detail) == (TaskState.CANCELLED, "it left the queue before it began")
    (paths.jobs / "7_0_0_log.out").touch()
    (status, _) = slurm.states(refs(paths, "7_0", "7_1"))
    assert (status.state, status.detail.partition(":")[0]) == (TaskState.FAILED, "it was killed")


@pytest.mark.parametrize(
    ("result", "state"),
    [
        (("success", "the sweep is over"), TaskState.COMPLETED),
        (("success", "received SIGTERM"), TaskState.CANCELLED),
        (("success", "the submission was cancelled"), TaskState.CANCELLED),
        (("error", "Traceback"), TaskState.FAILED),
    ],
)
def test_a_result_tells_how_a_task_ended_that_slurm_has_forgotten(
    slurm: SlurmExecutor, program: Program, paths: SubmissionPaths, result: tuple[str, str], state: TaskState
) -> None:
    program("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    program("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    utils.cloudpickle_dump(result, paths.jobs / "7_0_0_result.pkl")
    assert [status.state for status in slurm.states(refs(paths, "7_0"))] == [state]


@pytest.mark.parametrize(
    "sacct",
    ["echo 'sacct: error: slurm_persist_conn_open_without_init: Connection refused' >&2; exit 1", "exec sleep 60"],
)
def test_an_accounting_that_does_not_answer_leaves_open_how_a_task_ended(
    slurm: SlurmExecutor, program: Program, paths: SubmissionPaths, sacct: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_states, "_TIMEOUT_S", 1.0)
    program("squeue", "echo '7_1|RUNNING|gpu1|None'")
    program("sacct", sacct)
    states = [status.state for status in slurm.states(refs(paths, "7_0", "7_1"))]
    assert states == [TaskState.UNKNOWN, TaskState.RUNNING]


def test_all_arrays_of_all_submissions_are_one_question_of_each_kind(
    slurm: SlurmExecutor, program: Program, paths: SubmissionPaths, tmp_path: Path
) -> None:
    log = tmp_path / "asked"
    program("squeue", f'echo "squeue $@" >>{log}; echo "9_0|RUNNING|gpu1|None"')
    program("sacct", f'echo "sacct $@" >>{log}; echo "7_0|COMPLETED|gpu1"; echo "8_0|CANCELLED by 1000|gpu1"')
    other = SubmissionPaths(paths.folder.with_name("other"))
    other.folder.mkdir()
    found = slurm.states([*refs(paths, "7_0", "9_0"), *refs(other, "8_0")])
    assert [status.state for status in found] == [TaskState.COMPLETED, TaskState.RUNNING, TaskState.CANCELLED]
    asked = [line.partition(" ") for line in log.read_text().splitlines()]
    assert [command for command, _, _ in asked] == ["squeue", "sacct"]
    assert "--jobs=7,9,8" in asked[0][2]
    assert asked[1][2].endswith("-j 7,8")


def test_without_accounting_a_task_that_left_no_result_was_cancelled(
    slurm: SlurmExecutor, program: Program, paths: SubmissionPaths
) -> None:
    program("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    program("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert [status.state for status in slurm.states(refs(paths, "7_0"))] == [TaskState.CANCELLED]


def test_a_squeue_that_fails_may_answer_later(slurm: SlurmExecutor, program: Program, paths: SubmissionPaths) -> None:
    program("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(UnavailableError, match="Unable to contact"):
        slurm.states(refs(paths, "7_0"))


def test_cancelling_what_has_ended_is_no_error(slurm: SlurmExecutor, program: Program, paths: SubmissionPaths) -> None:
    program("scancel", "echo 'scancel: error: Kill job error on job id 7: Invalid job id specified' >&2; exit 1")
    slurm.cancel(["7_0"], paths)


def test_a_cancel_that_does_not_arrive_is_an_error(
    slurm: SlurmExecutor, program: Program, paths: SubmissionPaths
) -> None:
    program("scancel", "echo 'scancel: error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(UnavailableError):
        slurm.cancel(["7_0"], paths)
