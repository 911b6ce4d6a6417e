"""`wandb-submit demo`: the quickstart, from an installed package, without an account, a GPU or Slurm."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import click


@click.command("demo")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Run a sweep of twelve small trainings with the offline server, in a new folder that it names.

    The runs use this program's own Python. `wandb-submit server stop` in the folder ends the server.
    """
    from wandb_submit.cli.submit import command as submit

    folder = Path(tempfile.mkdtemp(prefix="wandb-submit-demo-", dir=Path.cwd()))
    shutil.copytree(_quickstart(), folder, dirs_exist_ok=True)
    click.echo(f"in {folder}:\n  wandb-submit sweep.yaml --offline --executor local --array 4", err=True)
    os.chdir(folder)
    arguments = ["sweep.yaml", "--offline", "--executor", "local", "--array", "4", "--python", sys.executable]
    with submit.make_context("submit", arguments, parent=ctx.parent) as context:
        submit.invoke(context)


def _quickstart() -> Path:
    """The example's folder: in the package where it is installed, in the repository where it is not."""
    package = Path(__file__).parents[1]
    installed = package / "quickstart"
    return installed if installed.is_dir() else package.parent / "examples" / "quickstart"
