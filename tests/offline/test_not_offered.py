"""What W&B offers and the offline server does not: clients are told so in words, and never stumble over a null."""

from __future__ import annotations

import json

from offline.clients import Protocol, Wandb

# Each call ends in an error; what is told are its type, its words, and those of what it stands for.
CALLS = """
import json
import wandb
api = wandb.Api()
with wandb.init(project="offers") as run:
    artifact = wandb.Artifact("data", "dataset")
    with artifact.new_file("file") as file:
        file.write("text")
    run.log_artifact(artifact).wait()
calls = {
    "registries": lambda: list(api.registries()),
    "registry": lambda: api.registry("x"),
    "create_registry": lambda: api.create_registry("x", visibility="restricted"),
    "registry artifact": lambda: api.artifact("wandb-registry-model/x:latest"),
    "registry link": lambda: artifact.link("org/wandb-registry-model/x"),
    "create_user": lambda: api.create_user("a@example.com"),
    "automations": lambda: list(api.automations(entity="local")),
    "integrations": lambda: list(api.integrations(entity="local")),
    "slack": lambda: list(api.slack_integrations(entity="local")),
    "run queue": lambda: api.create_run_queue(name="q", type="local-process", entity="local"),
    "run queue items": lambda: api.run_queue("local", "q").items,
    "custom chart": lambda: api.create_custom_chart(
        entity="local", name="c", display_name="C", spec_type="vega2", access="private", spec={}),
    "artifact types": lambda: list(api.artifact_types("local/nothing")),
    "collections of no project": lambda: list(api.artifact_collections("local/nothing", "dataset")),
    "collections of no type": lambda: list(api.artifact_collections("local/offers", "nothing")),
    "artifacts of nothing": lambda: list(api.artifacts("dataset", "local/offers/nothing")),
}
if hasattr(api, "organization"):
    calls["organization"] = lambda: api.organization("org")
told = {}
for name, call in calls.items():
    try:
        told[name] = ["none", repr(call())]
    except Exception as error:
        told[name] = [type(error).__name__, str(error)]
print("RESULT", json.dumps(told))
"""
WORDS = {
    "registries": "not enabled on this wandb server",
    "registry": "not enabled on this wandb server",
    "create_registry": "not enabled on this wandb server",
    "registry artifact": "Unable to find organization",
    "registry link": "Unable to find organization",
    "create_user": "offers no teams or users",
    "automations": "offers no automations",
    "integrations": "offers no integrations",
    "slack": "offers no integrations",
    "run queue": "offers no launch queues",
    "run queue items": "offers no launch queues",
    "custom chart": "offers no custom charts",
    "artifact types": "there is no project 'nothing' here",
    "collections of no project": "there is no project 'nothing' here",
    "collections of no type": "there is no artifact type 'nothing' here",
    "artifacts of nothing": "there is no artifact collection 'nothing' here",
    "organization": "offers no organizations",
}


def test_the_client_is_told_what_is_not_offered(wandb: Wandb) -> None:
    told = wandb.python(CALLS)
    assert {name: text for name, (_, text) in told.items() if WORDS[name] not in text} == {}
    assert {kind for kind, _ in told.values()}.isdisjoint({"none", "ValidationError", "TypeError", "KeyError"})


def test_no_project_becomes_a_registry(protocol: Protocol) -> None:
    made = """mutation UpsertRegistry($name: String!) {
      upsertModel(input: {name: $name, entityName: "org"}) { inserted project { id allowAllArtifactTypes } } }"""
    asked = """query RegistryUserMembers($name: String!) {
      project(name: $name, entityName: "org") { members { id } } }"""
    for query in (made, asked):
        answer = protocol.post(query, name="wandb-registry-model")
        assert answer.status_code == 200
        assert "offers no registries" in answer.json()["errors"][0]["message"]


ARTIFACTS = """query ProjectArtifacts($order: String, $filters: JSONString) {
  project(name: "versions", entityName: "local") { artifactType(name: "dataset") {
    artifactCollection(name: "data") { artifacts(order: $order, filters: $filters) {
      edges { version node { files { edges { node { name storagePath } } } } } } } } } }"""
VERSIONS = """
import wandb
with wandb.init(project="versions") as run:
    for text in "abc":
        artifact = wandb.Artifact("data", "dataset")
        with artifact.new_file("file") as file:
            file.write(text)
        run.log_artifact(artifact).wait()
print("RESULT", "0")
"""


def test_artifacts_are_ordered_by_snake_case_and_their_files_have_a_bucket_s_path(
    protocol: Protocol, wandb: Wandb
) -> None:
    wandb.python(VERSIONS)

    def edges(**asked: str) -> list[dict]:
        data = protocol.data(ARTIFACTS, **asked)
        return data["project"]["artifactType"]["artifactCollection"]["artifacts"]["edges"]

    for order in ("version_index", "versionIndex", "created_at", "createdAt", "updated_at"):
        assert [edge["version"] for edge in edges(order=f"+{order}")] == ["v0", "v1", "v2"]
        assert [edge["version"] for edge in edges(order=f"-{order}")] == ["v2", "v1", "v0"]
    (found,) = edges(filters=json.dumps({"version_index": 1}))
    assert found["version"] == "v1"
    (file,) = found["node"]["files"]["edges"]
    assert file["node"]["storagePath"].startswith("wandb_artifacts/")

    assert "not by nothing" in protocol.post(ARTIFACTS, order="nothing").json()["errors"][0]["message"]
