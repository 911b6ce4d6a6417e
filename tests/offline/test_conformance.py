"""Every operation that the client's package holds is answered in full, or refused by the name of what is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from graphql.language import FieldNode, OperationDefinitionNode
from offline.clients import Protocol, Wandb
from offline.conftest import Serve
from offline.operations import Operation, operations

from wandb_submit.server.service import schema

# What docs/reference/offline-server.md says is not there: launch, automations, organizations and registries, the
# administration of users, custom charts, and uploads in parts.
ABSENT = {
    *("launchAgent", "runQueue", "runQueues", "ackRunQueueItem", "defaultResourceConfig"),
    *("createDefaultResourceConfig", "createRunQueue", "upsertRunQueue", "deleteRunQueues"),
    *("deleteFromRunQueue", "failRunQueueItem"),
    *("popFromRunQueue", "pushToRunQueueByName", "updateLaunchAgent", "updateRunQueueItemWarning"),
    *("triggers", "integrations", "createFilterTrigger", "updateFilterTrigger", "deleteTrigger"),
    *("createGenericWebhookIntegration", "organization", "members", "teamMembers", "projects", "renameProject"),
    *("deleteModel", "createProjectMembers", "deleteProjectMembers", "updateProjectMember", "updateProjectTeamMember"),
    *("createUser", "createTeam", "createInvite", "deleteInvite", "createServiceAccount", "generateApiKey"),
    *("deleteApiKey", "createCustomChart", "completeMultipartUploadArtifact"),
    # An entity's one project: registries ask for it there, everybody else at the root.
    *("createArtifactType", "project", "runInfo"),
}  # fmt: skip
REFUSAL = re.compile(
    r"the offline sweep server (?:has |offers no [\w ,]+ \()no field '(\w+)', which the query \w+ asks for\)?"
)
SEED = """
import json, os, wandb
sweep = wandb.sweep({"method": "random", "program": "t.py", "metric": {"name": "m", "goal": "minimize"},
                     "parameters": {"lr": {"min": 0.1, "max": 0.9}}}, entity="local", project="seed")
with wandb.init(project="seed", id="one", config={"lr": 0.5}, tags=["t"], notes="n", group="g", job_type="j",
                settings=wandb.Settings(sweep_id=sweep)) as run:
    for step in range(5):
        print("line", step)
        run.log({"m": step})
    artifact = wandb.Artifact("data", "dataset", description="d", metadata={"a": 1})
    with artifact.new_file("file") as file:
        file.write("text")
    run.log_artifact(artifact, aliases=["best"], tags=["t"]).wait()
    run.use_artifact("data:latest")
    run.link_artifact(artifact, "local/seed/links")
api = wandb.Api()
print("RESULT", json.dumps({
    "sweep": sweep, "run": api.run("local/seed/one").storage_id, "artifact": artifact.id,
    "collection": api.artifact_collection("dataset", "local/seed/data").id,
    "client": artifact._client_id, "digest": artifact.manifest.entries["file"].digest,
    "package": os.path.dirname(wandb.__file__)}))
"""


def values(operation: Operation, ids: dict[str, str]) -> dict[str, object]:
    """For each of an operation's variables, by its name, one of the things that `SEED` makes."""
    spec = json.dumps({"keys": ["m"]})
    names = {
        "seed": "project projectName model",
        "local": "entity entityName query",
        "one": "run runName runId name",
        "data": "collection collectionName artifactCollectionName",
        "dataset": "type artifactTypeName",
        "latest": "alias",
        ids["artifact"]: "artifactID artifact_id",
        ids["agent"]: "agentID",
        ids["client"]: "clientID",
        ids["sweep"]: "sweep",
        "{}": "filters",
        spec: "spec",
        "": "desc",
        "V2": "storageLayout",
        "v1": "manifestVersion",
        2: "perPage first last reportLimit",
        100: "maxStep pageSize",
    }
    known = {name: value for value, group in names.items() for name in group.split()} | {
        "specs": [spec],
        "historySpecs": [spec],
        "liveKeys": ["_step"],
        "includeConfig": True,
        "files": ["config.yaml"],
        "fileName": "config.yaml",
        "pattern": "%",
        "minStep": 0,
        "includeAliases": True,
        "entries": [{"name": "file", "digest": ids["digest"], "birthArtifactID": ids["artifact"]}],
        "id": {"artifact": ids["artifact"], "artifactCollection": ids["collection"]}.get(operation.roots[0]),
    }
    by_name = {
        "GetSweep": ids["sweep"],
        "GetSweepLegacy": ids["sweep"],
        "GetProject": "seed",
        "Project": "seed",
        "ProjectArtifactCollection": "data",
        "ArtifactType": "data:latest",
        "ArtifactMembershipByName": "data:latest",
        "ArtifactByName": "data:latest",
        "GetArtifactFiles": "data:latest",
        **dict.fromkeys(("RunConfigs", "RunUploadUrls", "RunDownloadUrls", "RunDownloadUrl"), "seed"),
    }
    known["name"] = by_name.get(operation.name, known["name"])
    return {name: known[name] for name in operation.variables if known.get(name) is not None}


def hollow(node: FieldNode | OperationDefinitionNode, data: object) -> set[str]:
    """The fields that have fields of their own and are null all the same: nobody saw what they would hold."""
    if isinstance(data, list):
        return {name for item in data for name in hollow(node, item)}
    found = set()
    selections = node.selection_set.selections if node.selection_set else ()
    for field in selections:
        if isinstance(field, FieldNode) and isinstance(data, dict) and field.selection_set:
            value = data[(field.alias or field.name).value]
            found |= {field.name.value} if value is None else hollow(field, value)
    return found


@pytest.mark.client
def test_every_operation_of_the_client_is_answered_or_refused_by_name(
    serve: Serve, tmp_path: Path, clean_env: Mapping[str, str]
):
    info = serve(tmp_path / "data")
    wandb = Wandb.at(info, tmp_path, clean_env)
    ids = wandb.python(SEED)
    held = operations(Path(ids["package"]))
    assert len({operation.name for operation in held}) > 100
    refused, nothing = set(), {}
    with Protocol(info, project="seed") as protocol:
        ids["agent"] = protocol.agent(ids["sweep"])
        for operation in held:
            if operation.kind == "mutation":
                refused |= set(operation.roots) - {*schema.MUTATIONS, *schema.PREPARED}
                continue
            sent = {"query": operation.text, "variables": values(operation, ids)}
            answer = protocol.http.post("/graphql", json=sent).json()
            if "errors" in answer:
                (error,) = answer["errors"]
                named = REFUSAL.fullmatch(error["message"])
                assert named, (operation.name, error)
                refused.add(named[1])
            else:
                nothing.update(dict.fromkeys(hollow(operation.node, answer["data"]), operation.name))
    assert refused <= ABSENT
    # What is null because there is none, not because this server does not know it.
    assert nothing.keys() <= {"organization", "latestLocalVersionInfo"}, nothing
    logged = re.findall(r"unknown field '([\w.]+)'", (info.data_dir / "server.log").read_text())
    assert set(logged) <= ABSENT
