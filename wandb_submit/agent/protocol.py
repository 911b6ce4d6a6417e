"""What an agent says to a W&B server: four GraphQL operations, one attempt each.

The mutations are the stock agent's (wandb 0.31, `wandb/apis/public/sweeps.py`), and the fields of the queries are those
that `wandb` itself asks for. Who calls decides whether and when to try again; an error says whether that can help.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from wandb_submit.errors import (
    NotFoundError,
    NotLoggedInError,
    RefusedError,
    UnavailableError,
    WandbSubmitError,
)
from wandb_submit.spec import OFFLINE_SERVER, Endpoint, SweepRef
from wandb_submit.store.paths import server_command
from wandb_submit.system.threads import in_daemon_thread
from wandb_submit.wandb_api.answers import Answer, error_messages
from wandb_submit.wandb_api.credentials import Login, find_login, why_it_ended
from wandb_submit.wandb_api.http import NoAnswerError, Transport

# `yaml.safe_load`'s is Python's own: running it leaves 0.3 MB more of each agent in memory that no other shares.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SWEEP = """
query AgentSweep($entity: String, $project: String, $sweep: String!) {
  project(name: $project, entityName: $entity) {
    sweep(sweepName: $sweep) { id name state config }
  }
}
"""
_CREATE_AGENT = """
mutation CreateAgent($host: String!, $projectName: String, $entityName: String, $sweep: String!) {
  createAgent(input: {host: $host, projectName: $projectName, entityName: $entityName, sweep: $sweep}) {
    agent { id }
  }
}
"""
_HEARTBEAT = """
mutation Heartbeat($id: ID!, $metrics: JSONString, $runState: JSONString) {
  agentHeartbeat(input: {id: $id, metrics: $metrics, runState: $runState}) {
    agent { id }
    commands
  }
}
"""
# `stopped` as in wandb's RunStoppedStatus (`wandb/sdk/launch/api.py`), `shouldStop` as in its SweepWithRuns.
_STOP_REQUESTED = """
query StopRequested($entity: String, $project: String, $sweep: String!, $run: String!) {
  project(name: $project, entityName: $entity) {
    sweep(sweepName: $sweep) { state }
    run(name: $run) { stopped shouldStop }
  }
}
"""
_CANCELED = ("CANCELED", "CANCELLED")


class SweepGoneError(NotFoundError):
    """The sweep, or the server's record of this agent, has been deleted."""


class SweepEndedError(RefusedError):
    """The sweep is finished, stopped or cancelled, and takes no more agents."""


class BusyError(UnavailableError):
    """The server asks for patience.

    Attributes:
        retry_after_s: how long it asks us to wait; `None` if it does not say.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepInfo:
    """What an agent needs to know of its sweep."""

    state: str
    command: tuple[object, ...]
    program: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One order of the server: `run`, `resume`, `stop` or `exit`."""

    type: str
    run_id: str | None = None
    program: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)


class SweepClient:
    """One agent's connection to its W&B server.

    Not thread-safe: it belongs to one event loop. The key is looked up again whenever the server refuses it or
    cannot be reached, so that a key or an offline server that changed while we waited is found.

    Args:
        endpoint: where the server is.
        device: what the agent computes on (`gpus`, `cpus`), which the offline server shows.
        timeout_s: how long an answer may take.
    """

    def __init__(
        self, endpoint: Endpoint, *, device: Mapping[str, object] | None = None, timeout_s: float = 60.0
    ) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._transport: Transport | None = None
        self._login: Login | None = None
        self._answered = 0
        self._offline = endpoint.server_dir is not None
        self._device = dict(device or {})

    @property
    def login(self) -> Login:
        """The address and the key that the server has answered to last."""
        assert self._login is not None  # noqa: S101 whoever asks has had an answer
        return self._login

    async def close(self) -> None:
        """Closes the connection."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    async def sweep(self, sweep: SweepRef) -> SweepInfo:
        """Reads the sweep's state and its `command`.

        Raises:
            SweepGoneError: if the server has no such sweep.
            UnavailableError: if the server does not answer properly now.
        """
        data = await self._call(_SWEEP, entity=sweep.entity, project=sweep.project, sweep=sweep.id)
        try:
            found = (data.get("project") or {}).get("sweep")
            if not found:
                raise SweepGoneError(f"no sweep {sweep.path} at {sweep.base_url}: it may have been deleted")
            config = yaml.load(found.get("config") or "", _LOADER) or {}  # noqa: S506 a safe one
            command, program = config.get("command"), config.get("program")
        except (AttributeError, ValueError, yaml.YAMLError) as error:
            raise UnavailableError(f"the server's answer about the sweep cannot be read: {str(data)[:200]}") from error
        return SweepInfo(
            state=str(found.get("state")),
            command=tuple(command) if isinstance(command, list) else (),
            program=program if isinstance(program, str) else None,
        )

    async def register(self, sweep: SweepRef, host: str) -> str:
        """Announces this agent; returns the id that the server gave it.

        Raises:
            SweepEndedError: if the sweep takes no more agents.
            UnavailableError: if the server does not answer properly now.
        """
        data = await self._call(
            _CREATE_AGENT, host=host, projectName=sweep.project, entityName=sweep.entity, sweep=sweep.id
        )
        return str(_dig(data, "createAgent", "agent", "id"))

    async def heartbeat(self, agent_id: str, running: Iterable[str]) -> list[Command]:
        """Tells which runs are alive, and takes the server's orders.

        With no run alive this asks for one. The offline server is told how many answers have arrived, so that it
        gives an order again if the answer that held it got lost.

        Raises:
            SweepGoneError: if the sweep or the agent is not known any more.
            UnavailableError: if the server does not answer properly now.
        """
        state = json.dumps(dict.fromkeys(running, True))
        # The offline server counts our answers and shows our devices; W&B's own agents say nothing here.
        metrics = {"answered": self._answered, **self._device} if self._offline else {}
        data = await self._call(_HEARTBEAT, id=agent_id, metrics=json.dumps(metrics), runState=state)
        try:
            commands = json.loads(str(_dig(data, "agentHeartbeat", "commands")) or "[]")
            orders = [
                Command(
                    type=str(entry["type"]),
                    run_id=entry.get("run_id"),
                    program=entry.get("program"),
                    args=dict(entry.get("args") or {}),
                )
                for entry in commands or ()
            ]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UnavailableError(f"the server's orders cannot be read: {str(data)[:200]}") from error
        self._answered += 1
        return orders

    async def stop_requested(self, sweep: SweepRef, run_id: str) -> bool:
        """Whether somebody asked the server to stop a run: a person, early termination, or the sweep's cancellation.

        Raises:
            UnavailableError: if the server does not answer properly now.
        """
        data = await self._call(_STOP_REQUESTED, entity=sweep.entity, project=sweep.project, sweep=sweep.id, run=run_id)
        try:
            project = data.get("project") or {}
            run, state = project.get("run") or {}, (project.get("sweep") or {}).get("state")
            return bool(run.get("stopped") or run.get("shouldStop") or state in _CANCELED)
        except AttributeError as error:
            raise UnavailableError(f"the server's answer about the run cannot be read: {str(data)[:200]}") from error

    async def leave(self, agent_id: str, stopped: Iterable[str]) -> None:
        """Tells an offline server that this agent ends; W&B has no word for it, and finds out by its silence.

        Args:
            agent_id: the agent.
            stopped: the runs that it was given and ended before their time: those that had not begun go to another.
        """
        if self._offline:
            metrics = json.dumps({"answered": self._answered, "leaving": sorted(stopped)})
            await self._call(_HEARTBEAT, id=agent_id, metrics=metrics, runState="{}")

    async def _call(self, query: str, **variables: object) -> Mapping[str, Any]:
        """Sends one operation and returns its `data`."""
        transport = self._transport or self._connect()
        content = {"query": query, "variables": variables}
        try:
            answer = await in_daemon_thread(lambda: transport.post_json("/graphql", content))
        except NoAnswerError as error:
            await self.close()
            if (folder := self._endpoint.server_dir) is None:
                raise
            remedy = f"if it has ended, `{server_command('start', folder)}` goes on with its data{why_it_ended(folder)}"
            raise NoAnswerError(f"{error}; {remedy}") from error
        # However the person got to it: a shell may be pointed at an offline server without `--offline`.
        self._offline = answer.headers.get("server") == OFFLINE_SERVER
        if answer.status == 200:
            return _data(answer)
        if answer.status in (401, 403):
            await self.close()
        raise _refusal(answer)

    def _connect(self) -> Transport:
        self._login, offline = find_login(self._endpoint), self._endpoint.server_dir is not None
        self._transport = Transport(
            self._login.base_url, self._login.api_key, offline=offline, timeout_s=self._timeout_s
        )
        return self._transport


def _data(answer: Answer) -> Mapping[str, Any]:
    """The `data` of an answer with status 200; errors inside it count as a server that cannot now."""
    try:
        body = answer.json()
    except ValueError as error:
        raise UnavailableError(f"the server answered something that is not JSON: {answer.text[:80]!r}") from error
    if not isinstance(body, dict):
        raise UnavailableError(f"the server answered something that is not an object: {answer.text[:80]!r}")
    if body.get("errors"):
        raise _from_text(error_messages(body), UnavailableError)
    data = body.get("data")
    if not isinstance(data, dict):
        raise UnavailableError("the server answered without data")
    return data


def _refusal(answer: Answer) -> WandbSubmitError:
    """Translates an HTTP error status into one of our errors."""
    status, text = answer.status, answer.complaint
    if status in (401, 403):
        return NotLoggedInError(f"the W&B server refuses our API key ({status} {text}): run `wandb login --relogin`")
    if status == 404:
        return SweepGoneError(f"the sweep was deleted, or the agent is not known any more ({text})")
    if answer.busy:
        return BusyError(f"the server answered {status} {text}"[:300], answer.retry_after_s)
    return _from_text(text, RefusedError)


def _from_text(text: str, otherwise: type[WandbSubmitError]) -> WandbSubmitError:
    """W&B tells an ended sweep from other refusals by its words only: 'Sweep X is not running'."""
    if "not running" in text:
        return SweepEndedError(text)
    return otherwise(f"the server answered: {text}"[:300])


def _dig(data: Mapping[str, Any], *keys: str) -> object:
    """A nested value of an answer."""
    value: Any = data
    for key in keys:
        if not isinstance(value, dict) or value.get(key) is None:
            raise UnavailableError(f"the server's answer lacks {'.'.join(keys)}")
        value = value[key]
    return value
