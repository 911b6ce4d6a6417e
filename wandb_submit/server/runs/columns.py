"""What the keys of filters and orders name: columns of runs and sweeps, and values inside of their JSON."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from wandb_submit.server.control.settings import DEFAULT_ENTITY
from wandb_submit.server.runs.json_values import first_of, summary_value
from wandb_submit.server.runs.shown_state import SHOWN_STATE
from wandb_submit.server.storage.refusals import Refusal

_SECTIONS = {"summary_metrics": "summary", "summaryMetrics": "summary", "summary": "summary", "config": "config"}
_MAX_LEVELS = 20


class Kind(Enum):
    """How a column's values are compared."""

    PLAIN = auto()
    TIME = auto()
    TAGS = auto()
    SWEEP = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A value of a run or sweep, as SQL with its parameters.

    Attributes:
        whole: the object that a metric's value was taken from, if there is one.
    """

    sql: str
    kind: Kind = Kind.PLAIN
    parameters: tuple[str, ...] = ()
    nullable: bool = True
    whole: Column | None = None


def _plain(sql: str, *, nullable: bool = True) -> Column:
    return Column(sql=sql, nullable=nullable)


def _time(sql: str, *, nullable: bool = False) -> Column:
    return Column(sql=sql, kind=Kind.TIME, nullable=nullable)


_USER = Column(sql="?", parameters=(DEFAULT_ENTITY,), nullable=False)
_DISPLAY_NAME = _plain("runs.display_name", nullable=False)
_CREATED = _time("runs.created_at")
_HEARD = _time("runs.heartbeat_at")
_RUN_COLUMNS = {
    "name": _plain("runs.name", nullable=False),
    "state": _plain(SHOWN_STATE, nullable=False),
    "display_name": _DISPLAY_NAME,
    "displayName": _DISPLAY_NAME,
    "group": _plain("runs.run_group"),
    "job_type": _plain("runs.job_type"),
    "jobType": _plain("runs.job_type"),
    "notes": _plain("runs.notes"),
    "description": _plain("runs.description"),
    "commit": _plain("runs.git_commit"),
    "host": _plain("runs.host"),
    "exitcode": _plain("runs.exit_code"),
    "created_at": _CREATED,
    "createdAt": _CREATED,
    "heartbeat_at": _HEARD,
    "heartbeatAt": _HEARD,
    "updated_at": _HEARD,
    "updatedAt": _HEARD,
    "duration": _plain("(runs.heartbeat_at - runs.created_at)", nullable=False),
    "sweep": Column(sql="(SELECT sweeps.id FROM sweeps WHERE sweeps.number = runs.sweep)", kind=Kind.SWEEP),
    "entity": _plain("(SELECT projects.entity FROM projects WHERE projects.id = runs.project)", nullable=False),
    "project": _plain("(SELECT projects.name FROM projects WHERE projects.id = runs.project)", nullable=False),
    "tags": Column(sql="runs.tags", kind=Kind.TAGS, nullable=False),
    "user": _USER,
    "username": _USER,
    "user.name": _USER,
    "user.username": _USER,
}
_SWEEP_COLUMNS = {
    "id": _plain("sweeps.id", nullable=False),
    "name": _plain("sweeps.id", nullable=False),
    "sweep": _plain("sweeps.id", nullable=False),
    "state": _plain("sweeps.state", nullable=False),
    "display_name": _plain("sweeps.display_name"),
    "displayName": _plain("sweeps.display_name"),
    "description": _plain("sweeps.description"),
    "created_at": _time("sweeps.created_at"),
    "createdAt": _time("sweeps.created_at"),
    "updated_at": _time("sweeps.updated_at"),
    "updatedAt": _time("sweeps.updated_at"),
    "heartbeat_at": _time("sweeps.heartbeat_at", nullable=True),
    "user": _USER,
    "username": _USER,
    "user.username": _USER,
}


def run_column(key: str, *, sorting: bool = False, descending: bool = False) -> Column:
    """What a key such as `state`, `config.lr` or `summary_metrics.loss` names.

    Args:
        key: the client's.
        sorting: runs are ordered by it; only numbers are numbers then, and truth values are texts.
        descending: whether they are ordered from the largest value on, as those of a metric to maximize are.

    Raises:
        Refusal: if it names nothing.
    """
    if key in _RUN_COLUMNS:
        return _RUN_COLUMNS[key]
    section, _, rest = key.partition(".")
    if section not in _SECTIONS or not rest:
        raise Refusal(f"the offline sweep server cannot filter or order runs by {key[:100]!r}")
    if "\x00" in key:
        raise Refusal("the name of a metric or parameter cannot hold a zero byte")
    if len(rest.split(".")) > _MAX_LEVELS:
        raise Refusal(f"the name of a metric or parameter has at most {_MAX_LEVELS} levels")
    if _SECTIONS[section] == "config":
        sql, parameters = first_of("runs.config", _config_paths(rest))
        return Column(sql=sql, parameters=parameters)
    sql, parameters = first_of("runs.summary", ((rest,), rest.split(".")))
    whole = Column(sql=sql, parameters=parameters)
    sql, parameters = summary_value(rest, sorting=sorting, maximize=descending)
    return Column(sql=sql, parameters=parameters, whole=whole)


def sweep_column(key: str) -> Column:
    """What a key of a filter of sweeps names.

    Raises:
        Refusal: if it names nothing.
    """
    if key not in _SWEEP_COLUMNS:
        raise Refusal(f"the offline sweep server cannot filter sweeps by {key[:100]!r}")
    return _SWEEP_COLUMNS[key]


def _config_paths(key: str) -> list[list[str]]:
    """Where `lr`, `lr.value`, `model.size` and `model.value.size` may be in a config: `{"lr": {"value": 0.1}}`."""
    whole = key.removesuffix(".value") or key
    first, *others = whole.split(".")
    if others[:1] == ["value"]:
        others = others[1:]
    # A dot may part a nested parameter's levels, or belong to the name.
    return [[whole, "value"], [first, "value", *others]]
