"""The keywords of `submit`: sbatch's options by their names as on the command line, and slips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import wandb_submit
from wandb_submit.options.keywords import sbatch_flags
from wandb_submit.options.sbatch import FLAGS

KNOWN = ("array", "gpus_per_task")


def test_sbatchs_options_are_taken_by_their_names() -> None:
    assert sbatch_flags(dict.fromkeys(FLAGS, "x"), KNOWN) == dict.fromkeys(FLAGS, "x")
    assert sbatch_flags({"partition": None, "qos": 5}, KNOWN) == {"qos": "5"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gpu_per_task", "submit() has no keyword 'gpu_per_task': did you mean 'gpus_per_task'?"),
        ("partiton", "did you mean 'partition'?"),
        ("cpus", "did you mean 'cpus_per_task'?"),
        ("template", "did you mean 'templates'?"),
        ("mail_user", "an option of sbatch's is written as sbatch={'mail-user': …}"),
        ("exclusive", "an option of sbatch's is written as sbatch={'exclusive': …}"),
        ("job_name", "the job is named after the submission"),
        ("ntasks_per_node", "use --ranks-per-node"),
        ("dry_run", "it is an option of the command's alone"),
    ],
)
def test_a_keyword_that_is_nothing_is_one_of_our_errors(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keywords: dict[str, Any] = {name: 1, "nonsense": 2}
    with pytest.raises(wandb_submit.WandbSubmitError) as raised:
        wandb_submit.submit("sweep.yaml", array=4, **keywords)
    first, second = str(raised.value).splitlines()
    assert words in first
    assert "submit() has no keyword 'nonsense'" in second
    assert not list(tmp_path.iterdir())
