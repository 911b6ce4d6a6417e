"""Which run logged and which used an artifact."""

from __future__ import annotations

from collections.abc import Mapping

from wandb_submit.server.artifacts import artifact
from wandb_submit.server.artifacts.fields import artifact_fields
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.request.context import Context
from wandb_submit.server.request.pages import connection
from wandb_submit.server.runs import run


def use_artifact(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `useArtifact`: a run has an artifact as its input."""
    values = arguments.nested("input")
    row = artifact.required(context, values.required_text("artifactID"))
    entity, project = values.required_text("entityName"), values.required_text("projectName")
    name = values.required_text("runName")
    user = run.required(context.tx, entity, project, name)
    context.tx.execute(
        "INSERT OR IGNORE INTO artifact_runs (run, artifact, used, created_at) VALUES (?, ?, 1, ?)",
        (user["id"], row["id"], context.now),
    )
    return {"artifact": artifact_fields(context, row)}


def run_artifacts(context: Context, run_number: int, arguments: Arguments, *, used: bool) -> Mapping[str, object]:
    """The artifacts that a run used, or those that it logged."""
    rows = context.tx.rows(
        f"{artifact.SELECT} JOIN artifact_runs ON artifact_runs.artifact = artifacts.id"
        " WHERE artifact_runs.run = ? AND used = ? AND artifacts.state = 'COMMITTED'"
        " ORDER BY artifact_runs.created_at, artifacts.id",
        (run_number, used),
    )
    return connection("Artifact", [artifact_fields(context, row) for row in rows], arguments)


def delete_run(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `deleteRun`: forgets a run, and if that is asked for the artifacts that it logged first."""
    values = arguments.nested("input")
    row = run.by_storage_id(context.tx, values.required_text("id"))
    if row is not None and values.flag("deleteArtifacts"):
        for logged in context.tx.rows("SELECT id FROM artifacts WHERE run = ?", (row["id"],)):
            artifact.delete(context, logged["id"])
    return run.delete_run(context, arguments)
