"""What Slurm refuses, from its own texts of several versions, and what a person is told."""

from __future__ import annotations

import pytest

from wandb_submit.errors import RefusedError, UnavailableError
from wandb_submit.executors.slurm import refusals


def refused(text: str) -> str:
    error = refusals.refusal(text)
    assert isinstance(error, RefusedError), text
    return str(error)


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
        # 24.11
        (
            "sbatch: error: CPU count per node can not be satisfied\n"
            "sbatch: error: Batch job submission failed: Requested node configuration is not available",
            "--cpus-per-task",
        ),
        ("sbatch: error: Batch job submission failed: Invalid feature specification", "--constraint"),
        ("sbatch: error: Batch job submission failed: Invalid node name specified", "--nodelist"),
        ("sbatch: error: Batch job submission failed: Requested reservation is invalid", "scontrol show reservation"),
        ("sbatch: error: Batch job submission failed: Invalid license specification", "scontrol show licenses"),
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

    def choices(topic: refusals.Topic) -> str:
        asked.append(topic)
        return "here: a, b"

    assert str(refusals.refusal(said, choices)) == (
        "Slurm refuses the job: invalid partition specified: nope; Invalid partition name specified. "
        "No such partition, see --partition (here: a, b)"
    )
    refusals.refusal("sbatch: error: Unable to contact slurm controller", choices)
    refusals.refusal("sbatch: unrecognized option '--foo'", choices)
    assert asked == [refusals.Topic.PARTITION]


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
        # Slurm 23.02 and newer, and 25.05
        "sbatch: error: Batch job submission failed: Rate limit exceeded, please retry momentarily",
        "sbatch: error: Batch job submission failed: Connection timed out establishing",
        "sbatch: error: Batch job submission failed: Slurm backup controller in standby mode",
    ],
)
def test_a_controller_that_does_not_answer_may_do_so_later(said: str) -> None:
    error = refusals.refusal(said)
    assert isinstance(error, UnavailableError)
    assert error.transient


@pytest.mark.parametrize(
    "said",
    [
        "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates "
        "accounting/QOS policy (job submit limit, user's size and/or time limits)",
        "sbatch: error: AssocMaxSubmitJobLimit\nallocation failure: Job violates accounting/QOS policy",
        "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, ...)",
        "sbatch: error: Batch job submission failed: MaxJobCount limit reached",
    ],
)
def test_a_limit_is_told_from_what_a_smaller_array_would_not_help(said: str) -> None:
    assert isinstance(refusals.refusal(said), refusals.LimitError)
    other = refusals.refusal("sbatch: error: Batch job submission failed: Invalid qos specification")
    assert not isinstance(other, refusals.LimitError)


def test_what_a_site_prints_around_a_refusal_is_left_out() -> None:
    said = (
        "-----------------------------------------\n     Welcome to the Big Machine\n"
        "No reservation for this job\n--> Verifying valid submit host (login2)...OK\n"
        "sbatch: error: Batch job submission failed: Invalid partition name specified\n"
    )
    text = refused(said)
    assert text.startswith(
        "Slurm refuses the job: Batch job submission failed: Invalid partition name specified. No such partition"
    )
