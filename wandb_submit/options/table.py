"""Every option of a submission, declared once.

From `Options` come the flags and their groups in `--help`, the keys of templates, the arguments of `submit()` with
their documentation, the page docs/reference/options.md, and what a workstation's plan says of options that it does
not enforce. A new option is an entry here, what uses its value, and a test.

`--help` imports this file: what reads a value imports what it needs when it is called.
"""

# Without `from __future__ import annotations`: to evaluate the annotations from their texts takes a while.
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from wandb_submit.errors import ConfigError
from wandb_submit.options import activation, sbatch, values


class Group(enum.Enum):
    """What an option is about: the headings of `--help`."""

    DEVICES = "Devices"
    RESOURCES = "Resources"
    RUNS = "Runs"
    SLURM = "Slurm"
    ENVIRONMENT = "Environment"
    OUTPUT = "Output"


@dataclass(frozen=True, kw_only=True, slots=True)
class Opt:
    """One option.

    Attributes:
        help: what it is for, in one line of at most 70 characters; names the default.
        group: its heading in `--help`.
        metavar: what its value is called; empty for a flag that has none.
        read: checks a value, whether text or from Python; called with the option as people write it.
        first: whether it is needed on the first day, and stands on top of `--help`.
        short: sbatch's letter for it.
        flag: its flag, where that is not its name with dashes.
        many: whether it is a list; the flag is repeated, and the lists of templates and flags are joined.
        pair: of a mapping, which is joined likewise: reads one NAME=VALUE of the flag.
        template: whether a template may have it.
        local: what is made of it on a workstation, if that is less than on a cluster.
        more: what `submit()`'s documentation and the options' page say besides.
    """

    help: str
    group: Group
    metavar: str = ""
    read: Callable[[str, object], object] = values.text
    first: bool = False
    short: str | None = None
    flag: str | None = None
    many: bool = False
    pair: Callable[[str], tuple[str, str | None]] | None = None
    template: bool = True
    local: str = ""
    more: str = ""


def _sbatchs(name: str, short: str | None = None, what: str = "") -> Opt:
    """An option that is sbatch's own, and passed on as it is."""
    return Opt(
        help=f"{what or name.capitalize()}, as for sbatch.",
        group=Group.SLURM,
        metavar=name.upper(),
        short=short,
        local="not used",
    )


class Options(TypedDict, total=False):
    """What can be asked for; `None` is not asked for."""

    executor: Annotated[
        str | None,
        Opt(
            help="slurm, local or auto. Default: auto, which is Slurm if it is here.",
            group=Group.RESOURCES,
            metavar="NAME",
            first=True,
        ),
    ]
    array: Annotated[
        int | str | None,
        Opt(
            help="N tasks, at most K at a time. Default: one per GPU or core, or 8.",
            group=Group.RESOURCES,
            metavar="N[%K]",
            read=values.array,
            first=True,
            more="8 is the default on Slurm; it is never more than the runs left. Indices such as `0-15%4` are "
            "counted: tasks are numbered from 0.",
        ),
    ]
    gpus_per_task: Annotated[
        int | str | None,
        Opt(
            help="GPUs of each task; 0: none. Default: 1 on a workstation.",
            group=Group.DEVICES,
            metavar="[TYPE:]G",
            read=values.gpus,
            first=True,
            more="Slurm is asked for none by default. A type such as `a100:1` is for Slurm; a workstation ignores it.",
        ),
    ]
    gpu_ids: Annotated[
        str | int | Sequence[int | str] | None,
        Opt(
            help="GPUs of this machine to choose from: 0,2 or 0-3 or UUIDs.",
            group=Group.DEVICES,
            metavar="LIST",
            read=values.gpu_names,
            more="Not for Slurm, which chooses its own.",
        ),
    ]
    include_busy: Annotated[
        bool | None,
        Opt(
            help="Use GPUs of this machine that others compute on, too.",
            group=Group.DEVICES,
            read=values.yes_or_no,
        ),
    ]
    cpus_per_task: Annotated[
        int | None,
        Opt(
            help="Cores of each task. Default: the site's, or an even share.",
            group=Group.RESOURCES,
            metavar="C",
            short="c",
            read=values.number(1),
            first=True,
        ),
    ]
    mem: Annotated[
        str | int | None,
        Opt(
            help="Memory of each task, such as 16G. Default: the site's.",
            group=Group.RESOURCES,
            metavar="SIZE",
            read=values.memory,
            local="not enforced",
        ),
    ]
    time: Annotated[
        str | int | None,
        Opt(
            help="Time limit of each task: 4:00:00. Default: the partition's, or none.",
            group=Group.RESOURCES,
            metavar="LIMIT",
            short="t",
            read=values.time_limit,
            first=True,
            more="In one of sbatch's formats.",
        ),
    ]
    agents_per_task: Annotated[
        int | None,
        Opt(
            help="Agents that share each task's GPUs and cores. Default: 1.",
            group=Group.RUNS,
            metavar="K",
            read=values.number(1),
        ),
    ]
    nodes: Annotated[
        int | None,
        Opt(
            help="Nodes of each task; each has its GPUs, cores and memory. Default: 1.",
            group=Group.SLURM,
            metavar="N",
            short="N",
            read=values.number(1),
        ),
    ]
    ranks_per_node: Annotated[
        int | None,
        Opt(
            help="Processes per run and node (torch ranks), started by srun.",
            group=Group.SLURM,
            metavar="R",
            read=values.number(1),
        ),
    ]
    agent: Annotated[
        str | None,
        Opt(
            help="native, or wandb for the `wandb agent` command. Default: native.",
            group=Group.RUNS,
            metavar="NAME",
            read=values.agent,
        ),
    ]
    preload: Annotated[
        str | Sequence[str] | None,
        Opt(
            help="Import these once per agent and fork each run: torch,wandb.",
            group=Group.RUNS,
            metavar="MODULES",
            read=values.modules,
            more="An empty list starts each run by itself. Default: what a function uses; nothing for a command.",
        ),
    ]
    count: Annotated[
        int | None,
        Opt(
            help="Runs per agent, as for `wandb agent`. Default: all.",
            group=Group.RUNS,
            metavar="N",
            read=values.number(1),
        ),
    ]
    grace: Annotated[
        float | str | None,
        Opt(
            help="Time that a stopped run gets to end, such as 90 or 5m. Default: 60 s.",
            group=Group.RUNS,
            metavar="S",
            read=values.seconds,
        ),
    ]
    max_requeues: Annotated[
        int | None,
        Opt(
            help="How often a task may be requeued. Default: no limit.",
            group=Group.RUNS,
            metavar="N",
            read=values.number(0),
        ),
    ]
    min_time_per_run: Annotated[
        str | int | None,
        Opt(
            help="Requeue instead of starting a run with less than this time left.",
            group=Group.RUNS,
            metavar="TIME",
            read=values.time_min,
            more="In one of sbatch's formats. Default: as long as the longest run so far took.",
        ),
    ]
    templates: Annotated[
        str | Sequence[str] | None,
        Opt(
            help="Use a site profile's options; later ones win.",
            group=Group.ENVIRONMENT,
            metavar="NAME|FILE",
            read=values.texts,
            first=True,
            flag="--template",
            many=True,
            template=False,
        ),
    ]
    env: Annotated[
        Mapping[str, str] | None,
        Opt(
            help="Set a variable of the runs; not for secrets.",
            group=Group.ENVIRONMENT,
            metavar="NAME=VALUE",
            read=activation.variables_of,
            pair=activation.name_value,
        ),
    ]
    setup: Annotated[
        str | Sequence[str] | None,
        Opt(
            help="Run a shell command before a task's agents begin.",
            group=Group.ENVIRONMENT,
            metavar="COMMAND",
            read=activation.commands,
            many=True,
        ),
    ]
    teardown: Annotated[
        str | Sequence[str] | None,
        Opt(
            help="Run a shell command when a task's agents have ended.",
            group=Group.ENVIRONMENT,
            metavar="COMMAND",
            read=activation.commands,
            many=True,
        ),
    ]
    python: Annotated[
        str | None,
        Opt(
            help="Python for the runs: a path, or a wrapper that ends with one.",
            group=Group.ENVIRONMENT,
            metavar="COMMAND",
            read=activation.python_command,
            more="A wrapper is for example `apptainer exec train.sif python`.",
        ),
    ]
    job_name: Annotated[
        str | None,
        Opt(
            help="Name of the Slurm jobs. Default: the sweep's id.",
            group=Group.SLURM,
            metavar="NAME",
            short="J",
            local="not used",
        ),
    ]
    partition: Annotated[str | None, _sbatchs("partition", "p", "Partitions")]
    account: Annotated[str | None, _sbatchs("account", "A")]
    qos: Annotated[str | None, _sbatchs("qos", "q", "Quality of service")]
    constraint: Annotated[str | None, _sbatchs("constraint", "C", "Features of nodes")]
    nodelist: Annotated[str | None, _sbatchs("nodelist", "w", "Nodes to use")]
    exclude: Annotated[str | None, _sbatchs("exclude", "x", "Nodes to leave out")]
    gres: Annotated[str | None, _sbatchs("gres", what="Generic resources")]
    reservation: Annotated[str | None, _sbatchs("reservation")]
    sbatch: Annotated[
        Mapping[str, str | int | None] | None,
        Opt(
            help="Pass any other option on to sbatch.",
            group=Group.SLURM,
            metavar="KEY[=VALUE]",
            read=sbatch.checked,
            pair=sbatch.key_value,
            local="not used",
            more="In Python and templates a mapping; `None` is an option without a value.",
        ),
    ]


TABLE: Mapping[str, Opt] = {name: hint.__metadata__[0] for name, hint in Options.__annotations__.items()}


def flag(name: str) -> str:
    """An option's flag: `--gpus-per-task`."""
    return TABLE[name].flag or f"--{name.replace('_', '-')}"


def checked(given: Mapping[str, object]) -> tuple[dict[str, Any], list[str]]:
    """Reads the values of options.

    Returns:
        What was read, by name, and what is wrong with the rest, a line each.
    """
    read: dict[str, Any] = {}
    problems: list[str] = []
    for name in (name for name in TABLE if name in given):  # in this order, whoever asked
        try:
            read[name] = TABLE[name].read(flag(name), given[name])
        except ConfigError as error:
            problems += str(error).splitlines()
    return read, problems
