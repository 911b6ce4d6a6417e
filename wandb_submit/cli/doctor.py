"""`wandb-submit doctor`: what would go wrong here, and what to do about it."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from wandb_submit.cli._options import json_option

if TYPE_CHECKING:
    from wandb_submit.doctor import Finding


_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


@click.command("doctor", short_help="Check Slurm, W&B, Python, folders and devices, with remedies.")
@click.option("--probe", is_flag=True, help="Look from a compute node, too: a Slurm job of one task.")
@json_option
def command(probe: bool, as_json: bool) -> None:
    """Check what a sweep needs here, and say what to do where something is missing.

    Nothing is changed. The exit status is 1 if something fails; warnings do not count.
    """
    from wandb_submit import doctor
    from wandb_submit.doctor.finding import Verdict

    found = list(doctor.examine(with_probe=probe))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in found]))
    else:
        _show(found)
    if any(finding.verdict is Verdict.FAILED for finding in found):
        sys.exit(1)


def _show(found: Sequence[Finding]) -> None:
    width = max(len(finding.topic) for finding in found)
    for finding in found:
        verdict = finding.verdict.value
        click.echo(f"{click.style(f'{verdict:7}', _COLOURS[verdict])}  {finding.topic:{width}}  {finding.words}")
        if finding.remedy:
            click.echo(f"{'':7}  {'':{width}}  → {finding.remedy}")
