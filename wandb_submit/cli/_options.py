"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wandb_submit.spec import parse_seconds

if TYPE_CHECKING:
    from wandb_submit.submission.submission import Submission

_F = TypeVar("_F", bound=Callable[..., Any])

submission_argument = click.argument("submission_id", metavar="[ID]", required=False)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


def find_submission(name: str | None) -> Submission:
    """The submission that a name stands for; says so where that is the name of a part of it."""
    from wandb_submit.store import lookup
    from wandb_submit.submission.submission import Submission

    found = lookup.find(name)
    if found.part:
        click.echo(
            f"note: {name} is {found.part} of the submission {found.paths.id}, which all of this is about", err=True
        )
    return Submission(found.paths)


def seconds(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Reads an option that is a number of seconds, or one with a unit, such as `5m`."""
    return None if value is None else parse_seconds(value, str(parameter.name).replace("_", "-"))


def together(*decorators: Callable[[_F], _F]) -> Callable[[_F], _F]:
    """Makes one decorator of several, the first one's option first."""

    def decorate(function: _F) -> _F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


resource_options = together(
    click.option("--executor", metavar="NAME", help="auto, slurm or local. Default: auto (Slurm where there is one)."),
    click.option("--array", metavar="N[%K]", help="N array tasks, at most K at a time; 0-15%4 is 16%4."),
    click.option(
        "--gpus-per-task", metavar="[TYPE:]G", help="GPUs of each task; 0: none. Default: 1 on a workstation."
    ),
    click.option(
        "--gpus", metavar="LIST", help="This machine's GPUs to choose from: 0,2 or 0-3 or UUIDs. Default: all."
    ),
    click.option(
        "--include-busy", is_flag=True, default=None, help="Take GPUs of this machine that others compute on, too."
    ),
    click.option("--cpus-per-task", type=int, metavar="C", help="Cores of each task."),
    click.option("--mem", metavar="SIZE", help="Memory of each task, as sbatch reads it: 16G."),
    click.option(
        "--time", metavar="LIMIT", help="Time limit of each task: 4:00:00. Default: the partition's, or none."
    ),
    click.option("--agents-per-task", type=int, metavar="K", help="K agents share each task's GPUs and cores."),
    click.option("--nodes", type=int, metavar="N", help="N nodes for each task, which has its GPUs and cores on each."),
    click.option("--ranks-per-node", type=int, metavar="R", help="Start each run R times per node, as ranks of it."),
    click.option("--agent", metavar="NAME", help="native, or wandb for the `wandb agent` command. Default: native."),
    click.option(
        "--preload",
        metavar="MODULES",
        help="Import these once per agent, such as torch,transformers, and fork each run from there.",
    ),
    click.option("--count", type=int, metavar="N", help="Runs per agent, as for `wandb agent`."),
    click.option(
        "--grace", metavar="S", help="Seconds (or 5m, 1h) that a run gets to end when it is told to. Default: 60."
    ),
    click.option("--max-requeues", type=int, metavar="N", help="How often a task may be requeued. Default: no limit."),
    click.option(
        "--min-time-per-run",
        metavar="TIME",
        help="How long a run takes: less time left than this, and a task requeues.",
    ),
    click.option("--template", "templates", multiple=True, metavar="NAME|FILE", help="A site profile; later ones win."),
)
activation_options = together(
    click.option("--env", multiple=True, metavar="NAME=VALUE", help="A variable of the runs; not for secrets."),
    click.option("--setup", multiple=True, metavar="COMMAND", help="A shell command before a task's agents begin."),
    click.option("--teardown", multiple=True, metavar="COMMAND", help="A shell command when they have ended."),
    click.option("--python", metavar="COMMAND", help="The runs' Python: a path, or a command that stands for it."),
)
slurm_options = together(
    *(
        click.option(f"--{name}", metavar=name.upper(), help=f"sbatch's --{name}.")
        for name in ("partition", "account", "qos", "constraint", "nodelist", "exclude", "gres", "reservation")
    ),
    click.option("--sbatch", multiple=True, metavar="KEY[=VALUE]", help="Any other sbatch option."),
)
