"""The keywords of `submit`: sbatch's options by their names as on the command line, and slips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import wandb_submit
from wandb_submit.options import keywords
from wandb_submit.options.sbatch import FLAGS
from wandb_submit.options.table import TABLE


def test_every_option_is_a_keyword_and_sbatchs_are_taken_by_their_names() -> None:
    keywords.check([*TABLE, *FLAGS])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gpu_per_task", "submit() has no keyword 'gpu_per_task': did you mean 'gpus_per_task'?"),
        ("partiton", "did you mean 'partition'?"),
        ("cpus", "did you mean 'cpus_per_task'?"),
        ("gpus", "did you mean 'gpus_per_task' or 'gpu_ids'?"),
        ("template", "did you mean 'templates'?"),
        ("mail_user", "an option of sbatch's is written as sbatch={'mail-user': …}"),
        ("exclusive", "an option of sbatch's is written as sbatch={'exclusive': …}"),
        ("output", "each task's log is in the submission's folder"),
        ("ntasks_per_node", "use --ranks-per-node"),
        ("dry_run", "it is an option of the command's alone"),
    ],
)
def test_a_keyword_that_is_nothing_is_one_of_our_errors(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {name: 1, "nonsense": 2}
    with pytest.raises(wandb_submit.WandbSubmitError) as raised:
        wandb_submit.submit("sweep.yaml", array=4, **given)
    first, second = str(raised.value).splitlines()
    assert words in first
    assert "submit() has no keyword 'nonsense'" in second
    assert not list(tmp_path.iterdir())
