from __future__ import annotations

import pytest

from wandb_submit.errors import UnavailableError
from wandb_submit.executors.base import TaskStatus
from wandb_submit.executors.slurm import cli
from wandb_submit.executors.states import TaskState

# https://slurm.schedmd.com/job_state_codes.html
ALL_STATES = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "CONFIGURING",
    "COMPLETING",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PENDING",
    "PREEMPTED",
    "RUNNING",
    "RESV_DEL_HOLD",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "REQUEUED",
    "RESIZING",
    "REVOKED",
    "SIGNALING",
    "SPECIAL_EXIT",
    "STAGE_OUT",
    "STOPPED",
    "SUSPENDED",
    "TIMEOUT",
    "UPDATE_DB",
    "EXPEDITING",
    "LAUNCH_FAILED",
    "POWER_UP_NODE",
    "RECONFIG_FAIL",
}


def states(text: str) -> dict[str, TaskState]:
    return {job: status.state for job, status in cli.parse_sacct(text).items()}


def test_every_state_of_slurm_is_known() -> None:
    assert set(cli.STATES) == ALL_STATES


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("RUNNING", TaskState.RUNNING),
        ("CANCELLED by 1000", TaskState.CANCELLED),
        ("CANCELLED+", TaskState.CANCELLED),
        ("OUT_OF_MEMORY", TaskState.OUT_OF_MEMORY),
        ("COMPLETING", TaskState.RUNNING),
        ("REQUEUED", TaskState.PENDING),
        ("LAUNCH_FAILED", TaskState.PENDING),
        ("A_STATE_OF_TOMORROW", TaskState.UNKNOWN),
        ("", TaskState.UNKNOWN),
    ],
)
def test_a_state_is_read_as_slurm_writes_it(text: str, state: TaskState) -> None:
    assert cli.read_state(text) is state


def test_squeue_tells_state_node_and_reason_of_each_task() -> None:
    text = "7_2|PENDING||Priority\n7_0|RUNNING|gpu1|None\n7_1|COMPLETED|gpu2|None\n"
    assert cli.parse_squeue(text) == {
        "7_2": TaskStatus(state=TaskState.PENDING, detail="Priority"),
        "7_0": TaskStatus(state=TaskState.RUNNING, node="gpu1"),
        "7_1": TaskStatus(state=TaskState.COMPLETED, node="gpu2"),
    }


@pytest.mark.parametrize("text", ["", "\n\n", "slurm_load_jobs error: Invalid job id specified\n", "a|b\n"])
def test_what_is_no_answer_tells_of_no_task(text: str) -> None:
    assert cli.parse_squeue(text) == {}
    assert cli.parse_sacct(text) == {}


def test_sacct_tells_state_and_node_of_each_task() -> None:
    text = "7_0|COMPLETED|gpu1\n7_1|CANCELLED by 1000|None assigned\n"
    assert cli.parse_sacct(text) == {
        "7_0": TaskStatus(state=TaskState.COMPLETED, node="gpu1"),
        "7_1": TaskStatus(state=TaskState.CANCELLED),
    }


def test_what_slurm_24_11_printed_of_an_array_before_and_after_scancel() -> None:
    queue = "14_[3-5%3]|PENDING||JobArrayTaskLimit\n14_0|RUNNING|ctcpu1|None\n14_1|COMPLETING|ctcpu1|None\n"
    held = "139_0|PENDING||launch failed requeued held\n"
    squeue = cli.parse_squeue(queue + held)
    assert {job: status.state.value for job, status in squeue.items()} == {
        **dict.fromkeys(("14_3", "14_4", "14_5", "139_0"), "pending"),
        **dict.fromkeys(("14_0", "14_1"), "running"),
    }
    assert squeue["139_0"].detail == "launch failed requeued held"
    assert states("14_0|CANCELLED by 0|ctcpu1\n11|FAILED|None assigned\n13|PENDING|None assigned\n") == {
        "14_0": TaskState.CANCELLED,
        "11": TaskState.FAILED,
        "13": TaskState.PENDING,
    }


@pytest.mark.parametrize(
    ("job", "tasks"),
    [
        ("7_3", [3]),
        ("7_[3]", [3]),
        ("7_[1-3]", [1, 2, 3]),
        ("7_[1-3%1]", [1, 2, 3]),
        ("7_[1-3,5%2]", [1, 2, 3, 5]),
        ("7_[0,2-3,9-10]", [0, 2, 3, 9, 10]),
        ("7_[0-12:4]", [0, 4, 8, 12]),
        ("7_[0-12:2%3]", [0, 2, 4, 6, 8, 10, 12]),
        ("7_[2,4-7%3]", [2, 4, 5, 6, 7]),
    ],
)
def test_a_range_of_tasks_that_never_started_is_all_of_them(job: str, tasks: list[int]) -> None:
    assert states(f"{job}|CANCELLED by 0|None assigned\n") == {f"7_{task}": TaskState.CANCELLED for task in tasks}
    assert set(cli.parse_squeue(f"{job}|PENDING||Priority\n")) == {f"7_{task}" for task in tasks}


@pytest.mark.parametrize("job", ["7_[0,2,5,...]", "7_[0,2,5-...%4]", "7_[0,2,5-1...%4]"])
def test_a_range_that_slurm_cut_short_tells_at_least_its_beginning(job: str) -> None:
    assert {"7_0", "7_2"} <= set(states(f"{job}|PENDING|None assigned\n"))


def test_one_question_asks_about_each_array_once() -> None:
    jobs = ["7_0", "7_1", "9_0"]
    assert cli.squeue_argv(jobs, [1000, 1000])[-2:] == ["--jobs=7,9", "--user=1000"]
    assert cli.squeue_argv(jobs, [1000, 0])[-1] == "--jobs=7,9"
    assert cli.squeue_argv(jobs[:2], [1000])[-1] == "--jobs=7"  # which squeue asks for alone
    assert cli.sacct_argv(jobs)[-2:] == ["-j", "7,9"]
    assert cli.scancel_argv(jobs, whole=True) == ["scancel", "7", "9"]
    assert cli.scancel_argv(jobs[:1], whole=False) == ["scancel", jobs[0]]  # the others run on


def test_sbatch_hears_the_script_and_not_its_variables() -> None:
    script = (
        "#!/bin/bash\n#SBATCH --partition=gpu\n#SBATCH --time=60\n#SBATCH --array=0-3\n#SBATCH --open-mode=append\n"
    )
    environ = {
        **dict.fromkeys(("SBATCH_PARTITION", "SBATCH_TIMELIMIT", "SBATCH_ARRAY_INX", "SBATCH_OPEN_MODE"), "other"),
        "SBATCH_ACCOUNT": "lab",
        "SLURM_CONF": "/etc/slurm.conf",
        "SLURM_CPU_BIND": "mask",
        "HOME": "/home/me",
    }
    outside = cli.sbatch_environment(environ, script)
    assert set(outside) == {"SBATCH_ACCOUNT", "SLURM_CONF", "SLURM_CPU_BIND", "HOME"}
    inside = cli.sbatch_environment({**environ, "SLURM_JOB_ID": "7", "SRUN_CPUS_PER_TASK": "2"}, script)
    assert set(inside) == {"SBATCH_ACCOUNT", "SLURM_CONF", "HOME"}


@pytest.mark.parametrize(
    "text",
    [
        "12\n",
        "12;cluster\n",
        "Submitted batch job 12\n",
        "------\nWelcome to the machine!\n 3 jobs left\n------\n12;big\n",
        "12\n\nYour project has 1200 core hours left.\n",
    ],
)
def test_the_arrays_id_is_found_among_what_a_site_prints(text: str) -> None:
    assert cli.parse_sbatch(text) == "12"


@pytest.mark.parametrize("text", ["", "queued\n", "job 12 is number 3 in the queue\n"])
def test_an_answer_without_an_id_leaves_open_what_was_submitted(text: str) -> None:
    with pytest.raises(UnavailableError, match="no job id"):
        cli.parse_sbatch(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("MaxArraySize            = 1001\n", 1001), ("MaxArraySize = 0\n", None), ("", None), ("Other = 1\n", None)],
)
def test_the_largest_array_is_what_slurm_says(text: str, size: int | None) -> None:
    assert cli.parse_max_array_size(f"Configuration data\n{text}MaxJobCount = 10000\n") == size


def test_a_persons_own_filters_do_not_change_what_we_ask() -> None:
    environ = {
        **dict.fromkeys(("SQUEUE_PARTITION", "SQUEUE_FORMAT", "SINFO_ALL", "SACCT_FEDERATION", "SCANCEL_STATE"), "x"),
        "SLURM_CONF": "/etc/slurm.conf",
        "SLURM_CLUSTERS": "big",
    }
    assert cli.plain_environment(environ) == {
        "SLURM_CONF": "/etc/slurm.conf",
        "SLURM_CLUSTERS": "big",
        "SLURM_BITSTR_LEN": "0",
    }


def test_why_a_task_waited_is_not_why_it_was_cancelled() -> None:
    answer = cli.parse_squeue("7_3|CANCELLED||JobArrayTaskLimit\n7_2|CANCELLED|n1|TimeLimit\n7_4|PENDING||Priority\n")
    assert [answer[f"7_{task}"].detail for task in (3, 2, 4)] == [
        *("it was cancelled before it began", "TimeLimit", "Priority")
    ]
