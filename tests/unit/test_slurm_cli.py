from __future__ import annotations

import pytest

from wandb_submit.errors import RefusedError, UnavailableError
from wandb_submit.executors import slurm_cli
from wandb_submit.executors.base import TaskStatus
from wandb_submit.states import TaskState

# https://slurm.schedmd.com/squeue.html#SECTION_JOB-STATE-CODES
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
}


def refused(text: str) -> str:
    error = slurm_cli.refusal(text)
    assert isinstance(error, RefusedError), text
    return str(error)


def states(text: str) -> dict[str, TaskState]:
    return {job: status.state for job, status in slurm_cli.parse_sacct(text).items()}


def test_every_state_of_slurm_is_known() -> None:
    assert set(slurm_cli.STATES) == ALL_STATES


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("RUNNING", TaskState.RUNNING),
        ("CANCELLED by 1000", TaskState.CANCELLED),
        ("CANCELLED+", TaskState.CANCELLED),
        ("OUT_OF_MEMORY", TaskState.OUT_OF_MEMORY),
        ("COMPLETING", TaskState.RUNNING),
        ("REQUEUED", TaskState.PENDING),
        ("LAUNCH_FAILED", TaskState.UNKNOWN),
        ("", TaskState.UNKNOWN),
    ],
)
def test_a_state_is_read_as_slurm_writes_it(text: str, state: TaskState) -> None:
    assert slurm_cli.read_state(text) is state


def test_squeue_tells_state_node_and_reason_of_each_task() -> None:
    text = "7_2|PENDING||Priority\n7_0|RUNNING|gpu1|None\n7_1|COMPLETED|gpu2|None\n"
    assert slurm_cli.parse_squeue(text) == {
        "7_2": TaskStatus(state=TaskState.PENDING, detail="Priority"),
        "7_0": TaskStatus(state=TaskState.RUNNING, node="gpu1"),
        "7_1": TaskStatus(state=TaskState.COMPLETED, node="gpu2"),
    }


@pytest.mark.parametrize("text", ["", "\n\n", "slurm_load_jobs error: Invalid job id specified\n", "a|b\n"])
def test_what_is_no_answer_tells_of_no_task(text: str) -> None:
    assert slurm_cli.parse_squeue(text) == {}
    assert slurm_cli.parse_sacct(text) == {}


def test_sacct_tells_state_and_node_of_each_task() -> None:
    text = "7_0|COMPLETED|gpu1\n7_1|CANCELLED by 1000|None assigned\n"
    assert slurm_cli.parse_sacct(text) == {
        "7_0": TaskStatus(state=TaskState.COMPLETED, node="gpu1"),
        "7_1": TaskStatus(state=TaskState.CANCELLED),
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
    ],
)
def test_a_range_of_tasks_that_never_started_is_all_of_them(job: str, tasks: list[int]) -> None:
    assert states(f"{job}|CANCELLED by 0|None assigned\n") == {f"7_{task}": TaskState.CANCELLED for task in tasks}


@pytest.mark.parametrize("job", ["7_[0,2,5,...]", "7_[0,2,5-...%4]", "7_[0,2,5-1...%4]"])
def test_a_range_that_slurm_cut_short_tells_at_least_its_beginning(job: str) -> None:
    assert {"7_0", "7_2"} <= set(states(f"{job}|PENDING|None assigned\n"))


def test_one_question_asks_about_each_array_once() -> None:
    jobs = ["7_0", "7_1", "9_0"]
    assert "--jobs=7,9" in slurm_cli.squeue_argv(jobs)
    assert slurm_cli.sacct_argv(jobs)[-2:] == ["-j", "7,9"]
    assert slurm_cli.scancel_argv(jobs) == ["scancel", "7", "9"]


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("sbatch: error: Batch job submission failed: Invalid job array specification", "MaxArraySize"),
        (
            "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates "
            "accounting/QOS policy (job submit limit, user's size and/or time limits)",
            "lower --array",
        ),
        (
            "sbatch: error: Batch job submission failed: Requested node configuration is not available",
            "--gpus-per-task",
        ),
        (
            "sbatch: error: Memory specification can not be satisfied\n"
            "sbatch: error: Batch job submission failed: Requested node configuration is not available",
            "--mem",
        ),
        (
            "sbatch: error: invalid partition specified: nope\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified",
            "--partition",
        ),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", "--qos"),
        (
            "sbatch: error: QOSMaxGRESPerUser\nsbatch: error: Batch job submission failed: Job violates "
            "accounting/QOS policy (job submit limit, user's size and/or time limits)",
            "what a task asks for",
        ),
        ("sbatch: error: AssocGrpSubmitJobsLimit", "that many jobs queued"),
        ("sbatch: error: Requested time limit is invalid (missing or exceeds some limit)", "lower --time"),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
            "--account",
        ),
        (
            "sbatch: unrecognized option '--foo'\nTry \"sbatch --help\" for more information",
            "does not know that option",
        ),
    ],
)
def test_a_refusal_keeps_slurms_words_and_says_what_to_do(said: str, advice: str) -> None:
    text = refused(said)
    assert advice in text
    assert said.splitlines()[0].partition("sbatch: ")[2].removeprefix("error: ") in text
    assert "\n" not in text


def test_too_much_memory_is_told_from_other_things_that_no_node_has() -> None:
    memory = "sbatch: error: Memory specification can not be satisfied"
    nodes = "sbatch: error: Batch job submission failed: Requested node configuration is not available"
    assert "lower --mem" in refused(f"{memory}\n{nodes}")


def test_a_refusal_ends_with_what_there_is() -> None:
    said = "sbatch: error: invalid partition specified: nope\nallocation failure: Invalid partition name specified"
    asked = []

    def choices(topic: slurm_cli.Topic) -> str:
        asked.append(topic)
        return "here: a, b"

    assert str(slurm_cli.refusal(said, choices)) == (
        "Slurm refuses the job: invalid partition specified: nope; Invalid partition name specified. "
        "No such partition, see --partition (here: a, b)"
    )
    slurm_cli.refusal("sbatch: error: Unable to contact slurm controller", choices)
    slurm_cli.refusal("sbatch: unrecognized option '--foo'", choices)
    assert asked == [slurm_cli.Topic.PARTITION]


def test_a_refusal_without_a_known_reason_is_still_a_refusal() -> None:
    assert "Job violates some plugin" in refused("sbatch: error: Job violates some plugin")
    assert "it gave no reason" in refused("")


def test_a_word_said_twice_is_repeated_once() -> None:
    assert refused("sbatch: error: no\nsbatch: error: no").count("no") == 1


@pytest.mark.parametrize(
    "said",
    [
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
        "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
    ],
)
def test_a_controller_that_does_not_answer_may_do_so_later(said: str) -> None:
    error = slurm_cli.refusal(said)
    assert isinstance(error, UnavailableError)
    assert error.transient


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
    outside = slurm_cli.sbatch_environment(environ, script)
    assert set(outside) == {"SBATCH_ACCOUNT", "SLURM_CONF", "SLURM_CPU_BIND", "HOME"}
    inside = slurm_cli.sbatch_environment({**environ, "SLURM_JOB_ID": "7", "SRUN_CPUS_PER_TASK": "2"}, script)
    assert set(inside) == {"SBATCH_ACCOUNT", "SLURM_CONF", "HOME"}
