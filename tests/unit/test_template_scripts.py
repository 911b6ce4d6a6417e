"""The sbatch script that each packaged template makes, as a whole (tests/unit/scripts).

After a change that is meant, write them anew: `UPDATE_SCRIPTS=1 pytest tests/unit/test_template_scripts.py`.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from unit.conftest import Program

from wandb_submit.executors.catalog import pick
from wandb_submit.executors.slurm.executor import SlurmExecutor
from wandb_submit.options import build, templates
from wandb_submit.options.table import Options
from wandb_submit.spec import ArraySpec
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.system.process import python_argv

SCRIPTS = Path(__file__).with_name("scripts")
NAMES = sorted(path.stem for path in templates.packaged().glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_packaged_template_makes_this_script(name: str, program: Program) -> None:
    program("sbatch", "exit 99")
    program("srun", "exit 99")
    program("sinfo", "exit 1")
    spec = build.build_spec(
        Options(executor="slurm", templates=(name,), array="4%2"),
        workdir=Path("/home/me/vision"),
        pick_executor=pick,
        default_array=lambda spec: ArraySpec(count=1),
    )
    paths = SubmissionPaths(Path("/home/me/vision/.wandb-submit/abc234"))
    script = SlurmExecutor().plan(spec, paths).render()
    script = script.replace(
        shlex.join(python_argv("wandb_submit.executors.task_program")), "PYTHON wandb_submit.executors.task_program"
    )
    if os.environ.get("UPDATE_SCRIPTS"):
        (SCRIPTS / f"{name}.sh").write_text(script)
    assert script == (SCRIPTS / f"{name}.sh").read_text()


def test_every_script_is_of_a_template() -> None:
    assert sorted(path.stem for path in SCRIPTS.iterdir()) == NAMES
