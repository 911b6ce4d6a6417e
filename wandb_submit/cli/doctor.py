"""`wandb-submit doctor`: what would go wrong here, and what to do about it."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from wandb_submit.cli._options import json_option
from wandb_submit.errors import ConfigError

if TYPE_CHECKING:
    from wandb_submit.doctor import Finding


_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


@click.command("doctor")
@click.option("--probe", is_flag=True, help="Look from a compute node, too: a Slurm job of one task.")
@click.option("--executor", metavar="NAME", default="auto", help="local leaves Slurm out. Default: auto.")
@click.option("--partition", metavar="PARTITION", help="Look at this partition, and probe a node of it.")
@click.option("--account", metavar="ACCOUNT", help="The probe's account.")
@click.option("--qos", metavar="QOS", help="The probe's QOS.")
@json_option
def command(
    probe: bool, executor: str, partition: str | None, account: str | None, qos: str | None, as_json: bool
) -> None:
    """Check what a sweep needs here, and say what to do where something is missing.

    Nothing is changed. The exit status is 1 if something fails; warnings do not count.
    """
    from wandb_submit import doctor
    from wandb_submit.doctor.finding import Verdict
    from wandb_submit.executors import catalog

    slurm = executor == "auto" or catalog.pick(executor) == "slurm"
    place = {"partition": partition, "account": account, "qos": qos}
    named = {name: value for name, value in place.items() if value is not None}
    if not slurm and (probe or named):
        raise ConfigError(f"--executor {executor}: --probe, --partition, --account and --qos are for Slurm")
    if not probe and set(named) - {"partition"}:
        raise ConfigError("--account and --qos say where the probe's job goes: add --probe")
    found = list(doctor.examine(slurm=slurm, with_probe=probe, place=named))
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
