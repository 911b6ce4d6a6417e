"""What a Slurm site has, for people to choose from: partitions, nodes, accounts; asked when it helps, never waited for.

What cannot be had is empty: many sites have no accounting, and a busy controller answers late.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from wandb_submit.errors import ConfigError, RefusedError, UnavailableError
from wandb_submit.executors.slurm import cli
from wandb_submit.executors.slurm.refusals import Topic
from wandb_submit.options.values import limit_min
from wandb_submit.system import process

_TIMEOUT_S = 5.0
_MOST_SHOWN = 12
_FIELDS = "%R|%P|%l|%L|%c|%m|%G|%f"
# Limits as sacctmgr's format knows them (https://slurm.schedmd.com/sacctmgr.html), and by their full names.
_ASSOCIATION_LIMITS = {
    "maxjobs": "MaxJobs",
    "maxsubmitjobs": "MaxSubmitJobs",
    "maxtres": "MaxTRESPerJob",
    "maxwall": "MaxWall",
    "grpjobs": "GrpJobs",
    "grpsubmitjobs": "GrpSubmitJobs",
    "grptres": "GrpTRES",
}
_QOS_LIMITS = {
    "maxjobspu": "MaxJobsPerUser",
    "maxsubmitpu": "MaxSubmitJobsPerUser",
    "maxtres": "MaxTRESPerJob",
    "maxtrespu": "MaxTRESPerUser",
    "maxwall": "MaxWall",
    "grpjobs": "GrpJobs",
    "grpsubmit": "GrpSubmitJobs",
    "grptres": "GrpTRES",
}
_AWAY = "--states=down,drain,fail,maint"
_NOTHING = ("", "(null)", "N/A")


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeGroup:
    """Alike nodes of one partition, as sinfo lists them.

    Attributes:
        is_default: whether the partition is the one that jobs get that name none.
        limit: the partition's time limit, as Slurm writes it.
        limit_min: the same in minutes; `None` is no limit.
        default: the limit of a job that asks for none, as Slurm writes it; `n/a` if it is the partition's.
        cores: of each node; `16+` where they differ.
        mem_mb: of each node; `64000+` where they differ.
        gres: such as `gpu:a100:4(S:0-1)`; empty if none.
        features: what --constraint chooses from.
    """

    partition: str
    is_default: bool
    limit: str
    limit_min: int | None
    default: str
    cores: str
    mem_mb: str
    gres: str
    features: tuple[str, ...]

    @property
    def shape(self) -> str:
        """A node in words: `16 cores, 64 GB, gpu:4`."""
        plus = "+" if self.mem_mb.endswith("+") else ""
        number = self.mem_mb.rstrip("+")
        mem = f"{int(number) // 1024}{plus} GB" if number.isdecimal() else self.mem_mb
        gres = self.gres.partition("(")[0] if self.gres.count("(") == 1 else self.gres
        return f"{self.cores} cores, {mem}" + (f", {gres}" if gres else "")


def parse_sinfo(text: str) -> list[NodeGroup]:
    """Reads sinfo's answer in our own format."""
    groups = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|", 7)]
        if len(fields) != 8:
            continue
        name, marked, limit, default, cores, mem_mb, gres, features = fields
        groups.append(
            NodeGroup(
                partition=name,
                is_default=marked.endswith("*"),
                limit=limit,
                limit_min=minutes(limit),
                default=default,
                cores=cores,
                mem_mb=mem_mb,
                gres="" if gres in _NOTHING else gres,
                features=() if features in _NOTHING else tuple(features.split(",")),
            )
        )
    return groups


def minutes(text: str) -> int | None:
    """Reads a time limit as Slurm writes it, in minutes; `None` is no limit."""
    try:
        return limit_min("--time", text)
    except ConfigError:  # "n/a", or nothing
        return None


def node_groups(partitions: str | None = None) -> list[NodeGroup]:
    """Asks about some partitions, `a,b`, or about all; nothing if Slurm does not tell within seconds."""
    return parse_sinfo(_asked(["sinfo", "--noheader", f"--format={_FIELDS}", *_chosen(partitions)]))


def all_away(partitions: str | None, nodes: str | None) -> bool:
    """Whether none of some nodes takes jobs now; False if that cannot be had.

    Args:
        partitions: the partitions that a job named.
        nodes: the nodes that it named.
    """
    chosen = [*_chosen(partitions), *([f"--nodes={nodes}"] if nodes else [])]
    known, away = (_asked(["sinfo", "--noheader", "--format=%D", *chosen, *states]) for states in ([], [_AWAY]))
    return known.split() != [] and sum(map(int, known.split())) == sum(map(int, away.split()))


def _away(partitions: str | None) -> str:
    """The nodes that take no jobs now: sbatch's check of a job looks at the others alone."""
    return ",".join(dict.fromkeys(_asked(["sinfo", "--noheader", _AWAY, "--format=%N", *_chosen(partitions)]).split()))


def _chosen(partitions: str | None) -> list[str]:
    return [f"--partition={partitions}"] if partitions else []


def settings() -> str:
    """What `scontrol show config` tells; empty if Slurm does not within seconds."""
    return _asked(["scontrol", "show", "config"])


def choices(topic: Topic, partitions: str | None = None) -> str:
    """What a person can choose from, as half a sentence; empty if that cannot be had.

    Args:
        topic: what was refused.
        partitions: the partitions that the job named.
    """
    match topic:
        case Topic.PARTITION:
            return _listed("here: ", [_marked(group) for group in node_groups()])
        case Topic.ACCOUNT:
            return _listed("yours: ", _associations("account"))
        case Topic.QOS:
            return _listed("yours: ", _names(_associations("qos")))
        case Topic.NODES:
            where = f"nodes of {partitions}: " if partitions else "nodes here: "
            shapes = _listed(where, [group.shape for group in node_groups(partitions)], between="; ")
            away = _away(partitions)
            return f"{shapes}; down or drained now: {away}" if shapes and away else shapes
        case Topic.FEATURE:
            return _listed("here: ", [name for group in node_groups(partitions) for name in group.features])
        case Topic.TIME:
            groups = node_groups(partitions)
            return _listed("limits: ", [f"{group.partition} {group.limit}" for group in groups])


def own_limits() -> list[str]:
    """The limits of our accounts and QOS, a line each, by sacctmgr's own names of them.

    A limit that is not set is not told; nothing if there are none, or they cannot be had.
    """
    user = f"user={getpass.getuser()}"
    accounts = _limited("associations", ("account", "partition"), _ASSOCIATION_LIMITS, user)
    names = _names(_associations("qos"))
    qos = _limited("qos", ("name",), _QOS_LIMITS, f"name={','.join(names)}") if names else []
    return [*(f"account {line}" for line in accounts), *(f"QOS {line}" for line in qos)]


def max_wall(qos: str) -> str:
    """The longest time limit that a QOS allows; empty if there is none, or it cannot be had."""
    return _asked(["sacctmgr", "--noheader", "--parsable2", "show", "qos", f"name={qos}", "format=maxwall"]).strip()


def _limited(what: str, names: Sequence[str], limits: Mapping[str, str], which: str) -> list[str]:
    """Of what sacctmgr lists, those that have limits: `lab gpu: at most 10 jobs submitted`."""
    argv = ["sacctmgr", "--noheader", "--parsable2", "show", what, which, f"format={','.join((*names, *limits))}"]
    lines = []
    for row in _asked(argv).splitlines():
        fields = row.split("|")
        told = zip(limits, fields[len(names) :], strict=False)
        words = [f"{limits[name]} {value}" for name, value in told if value]
        if words:
            lines.append(f"{' '.join(filter(None, fields[: len(names)]))}: {', '.join(words)}")
    return lines


def _associations(field: str) -> list[str]:
    argv = ["sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={getpass.getuser()}"]
    return _asked([*argv, f"format={field}"]).split()


def _names(lists: Iterable[str]) -> list[str]:
    """The names in lists such as `normal,long`, each once."""
    return list(dict.fromkeys(name for names in lists for name in names.split(",") if name))


def _asked(argv: Sequence[str]) -> str:
    try:
        answer = process.run(argv, timeout_s=_TIMEOUT_S, env=cli.plain_environment(os.environ))
    except (RefusedError, UnavailableError):
        return ""
    return answer.stdout if answer.returncode == 0 else ""


def _marked(group: NodeGroup) -> str:
    return f"{group.partition} (default)" if group.is_default else group.partition


def _listed(before: str, values: Sequence[str], between: str = ", ") -> str:
    """The values, each once; of very many the first."""
    distinct = list(dict.fromkeys(values))
    if not distinct:
        return ""
    shown = distinct[:_MOST_SHOWN]
    more = f"{between}and {len(distinct) - len(shown)} more" if len(distinct) > len(shown) else ""
    return before + between.join(shown) + more
