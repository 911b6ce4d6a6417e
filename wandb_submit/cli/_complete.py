"""What a shell completes: values of options and arguments. Whatever goes wrong completes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

import click

from wandb_submit.errors import WandbSubmitError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Complete: TypeAlias = "Callable[[click.Context, click.Parameter, str], list[CompletionItem]]"


def submissions(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The submissions of this folder, the newest first, with their sweeps."""
    from wandb_submit.store import record

    found = []
    with contextlib.suppress(WandbSubmitError, OSError):
        for paths in reversed(record.all_submissions()):
            with contextlib.suppress(WandbSubmitError):
                found.append((paths.id, record.load(paths).sweep.path))
    return _items(found, incomplete)


def runs(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The runs of the submission that is named before, or of the newest."""
    from wandb_submit.store.journal import Journal
    from wandb_submit.submission import lookup

    with contextlib.suppress(WandbSubmitError, OSError):
        journal = Journal(lookup.find(ctx.params.get("submission_id")).paths)
        journal.update()
        return _items(((run.id, f"on {run.host}") for run in journal.runs.values()), incomplete)
    return []


def submissions_and_runs(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Both, where either may stand first."""
    return [*submissions(ctx, parameter, incomplete), *runs(ctx, parameter, incomplete)]


def files(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files, which the shell completes by itself."""
    from click.shell_completion import CompletionItem  # here, for `--help` needs nothing of it

    return [CompletionItem(incomplete, type="file")]


def sweep_files(incomplete: str) -> list[CompletionItem]:
    """The YAML files of this folder."""
    from pathlib import Path  # here, for `--help` needs nothing of it

    return _items(((path.name, "") for path in sorted(Path().glob("*.y*ml"))), incomplete)


def templates(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Templates by name, and files."""
    from wandb_submit.options import templates

    named = ((name, templates.description(path)) for name, path in sorted(templates.available().items()))
    return _items(named, incomplete) or files(ctx, parameter, incomplete)


def partitions(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Slurm's partitions."""
    from wandb_submit.executors.slurm import site

    return _items(((name, "") for name in dict.fromkeys(group.partition for group in site.node_groups())), incomplete)


def _words(*words: str) -> Complete:
    return lambda ctx, parameter, incomplete: _items(((word, "") for word in words), incomplete)


# By the options' names.
VALUES: dict[str, Complete] = {
    "executor": _words("auto", "slurm", "local"),
    "agent": _words("native", "wandb"),
    "templates": templates,
    "partition": partitions,
}


def _items(found: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem  # likewise

    return [CompletionItem(value, help=said or None) for value, said in found if value.startswith(incomplete)]
