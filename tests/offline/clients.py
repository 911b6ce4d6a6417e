"""Clients of the offline server for tests: GraphQL spoken directly, and wandb in a process of its own."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from wandb_submit.server.control.lifecycle import ServerInfo
from wandb_submit.wandb_api.credentials import Login, trial_environment

CREATE_SWEEP = """
mutation UpsertSweep($id: ID, $config: String, $entityName: String, $projectName: String, $state: String) {
  upsertSweep(input: {id: $id, config: $config, entityName: $entityName, projectName: $projectName, state: $state}) {
    sweep { name project { id name entity { id name } } }
    configValidationWarnings
  }
}
"""
CREATE_AGENT = """
mutation CreateAgent($host: String!, $projectName: String, $entityName: String, $sweep: String!) {
  createAgent(input: {host: $host, projectName: $projectName, entityName: $entityName, sweep: $sweep}) { agent { id } }
}
"""
HEARTBEAT = """
mutation Heartbeat($id: ID!, $metrics: JSONString, $runState: JSONString) {
  agentHeartbeat(input: {id: $id, metrics: $metrics, runState: $runState}) { agent { id } commands }
}
"""
SWEEP = """
query Sweep($entity: String, $project: String, $sweep: String!) {
  project(name: $project, entityName: $entity) {
    sweep(sweepName: $sweep) {
      id name state config method runCount runCountExpected bestLoss
      runs(first: 1000) { edges { node { name state config summaryMetrics exitcode } } }
    }
  }
}
"""
START_RUN = """
mutation UpsertBucket($name: String, $project: String, $entity: String, $host: String, $sweep: String,
                      $config: JSONString) {
  upsertBucket(input: {name: $name, modelName: $project, entityName: $entity, host: $host, sweep: $sweep,
                       config: $config}) {
    bucket { id name displayName config historyLineCount } inserted
  }
}
"""

_BEATS = itertools.count(1)


def client_python() -> Path:
    """The interpreter whose `wandb` is the client under test: ours, or that of WANDB_SUBMIT_CLIENT_PYTHON."""
    return Path(os.environ.get("WANDB_SUBMIT_CLIENT_PYTHON") or sys.executable).absolute()


class Protocol:
    """A W&B client reduced to its requests."""

    def __init__(self, info: ServerInfo, *, entity: str = "local", project: str = "tests") -> None:
        self.entity, self.project = entity, project
        self.http = httpx.Client(base_url=info.url, auth=("api", info.api_key), trust_env=False, timeout=120)

    def __enter__(self) -> Protocol:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def post(self, query: str, **variables: object) -> httpx.Response:
        return self.http.post("/graphql", json={"query": query, "variables": variables})

    def data(self, query: str, **variables: object):
        answer = self.post(query, **variables)
        body = answer.json()
        assert answer.status_code == 200, body
        assert "errors" not in body, body
        return body["data"]

    def create_sweep(self, **config: object) -> str:
        data = self.data(CREATE_SWEEP, config=yaml.safe_dump(config), entityName=self.entity, projectName=self.project)
        return data["upsertSweep"]["sweep"]["name"]

    def set_state(self, sweep: str, state: str) -> None:
        self.data(CREATE_SWEEP, id=sweep, state=state)

    def sweep(self, sweep: str):
        return self.data(SWEEP, entity=self.entity, project=self.project, sweep=sweep)["project"]["sweep"]

    def runs(self, sweep: str) -> dict[str, dict]:
        return {edge["node"]["name"]: edge["node"] for edge in self.sweep(sweep)["runs"]["edges"]}

    def states(self, sweep: str) -> list[str]:
        return [run["state"] for run in self.runs(sweep).values()]

    def agent(self, sweep: str) -> str:
        data = self.data(CREATE_AGENT, host="test", projectName=self.project, entityName=self.entity, sweep=sweep)
        return data["createAgent"]["agent"]["id"]

    def heartbeat(self, agent: str, *alive: str) -> list[dict]:
        """A heartbeat that cannot be taken for an earlier one that is sent again."""
        return self.repeated_heartbeat(agent, *alive, metrics=json.dumps({"answered": next(_BEATS)}))

    def repeated_heartbeat(self, agent: str, *alive: str, metrics: str = "{}") -> list[dict]:
        """A heartbeat as wandb's agents send it: the next one and the same one again look alike."""
        data = self.data(HEARTBEAT, id=agent, metrics=metrics, runState=json.dumps(dict.fromkeys(alive, True)))
        return json.loads(data["agentHeartbeat"]["commands"])

    def take_run(self, agent: str) -> dict:
        (order,) = self.heartbeat(agent)
        assert order["type"] == "run", order
        return order

    def start_run(self, name: str, **more: object):
        data = self.data(
            START_RUN, name=name, project=self.project, entity=self.entity, host=more.pop("host", "h"), **more
        )
        return data["upsertBucket"]

    def stream(self, run: str, **body: object) -> httpx.Response:
        return self.http.post(f"/files/{self.entity}/{self.project}/{run}/file_stream", json=body)

    def log(self, run: str, rows: list[Mapping[str, object]], offset: int = 0) -> None:
        lines = [json.dumps(row) for row in rows]
        answer = self.stream(run, files={"wandb-history.jsonl": {"offset": offset, "content": lines}})
        assert answer.status_code == 200, answer.text

    def finish(self, run: str, exit_code: int = 0, summary: Mapping[str, object] | None = None) -> None:
        files = {"wandb-summary.json": {"offset": 0, "content": [json.dumps(summary)]}} if summary else {}
        assert self.stream(run, files=files, complete=True, exitcode=exit_code).status_code == 200


@dataclass(frozen=True, kw_only=True)
class Wandb:
    """The unmodified wandb client, run in processes whose environment knows nothing but the server."""

    folder: Path
    env: Mapping[str, str]

    @classmethod
    def at(cls, info: ServerInfo, folder: Path, env: Mapping[str, str]) -> Wandb:
        # An agent finds the `python` of its runs there.
        path = f"{client_python().parent}:{env['PATH']}"
        return cls(
            folder=folder,
            env={**env, "PATH": path, **trial_environment(Login(info.url, info.api_key), offline=True)},
        )

    def start(self, *argv: str, log: str | None = None, **env: str) -> subprocess.Popen[str]:
        """Starts a program of the client's Python; its output goes to the file `log`."""
        program = [str(client_python().parent / argv[0]), *argv[1:]]
        with (self.folder / (log or f"{argv[0]}.log")).open("w") as output:
            return subprocess.Popen(
                program,
                cwd=self.folder,
                env={**self.env, **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def run(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a program to its end; its output is both of its streams."""
        program = [str(client_python().parent / argv[0]), *argv[1:]]
        return subprocess.run(
            program,
            cwd=self.folder,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )

    def python(self, code: str, *arguments: str):
        """Runs a script and returns what it printed after `RESULT `, as JSON."""
        done = self.run("python", "-c", code, *arguments)
        assert done.returncode == 0, done.stdout
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        return json.loads(lines[-1].removeprefix("RESULT "))
