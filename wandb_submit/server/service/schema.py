"""The root fields of the API: which function answers which."""

from __future__ import annotations

from collections.abc import Mapping

from wandb_submit.server.artifacts import aliases, artifact, collection, contents, lineage, manifest, queries, versions
from wandb_submit.server.graphql.introspection import Introspection
from wandb_submit.server.projects import projects, viewer
from wandb_submit.server.request.context import Preparation, Resolver
from wandb_submit.server.runs import alerts, files_deletion, files_listing, run
from wandb_submit.server.runs import fields as run_fields
from wandb_submit.server.sweeps import agents, queue, sweep
from wandb_submit.server.sweeps import fields as sweep_fields

QUERIES: Mapping[str, Resolver] = {
    "artifact": queries.artifact_by_id,
    "artifactCollection": queries.collection_by_id,
    "clientIDMapping": queries.client_id_mapping,
    "entity": viewer.entity,
    "model": sweep_fields.model,
    "models": projects.models,
    "project": sweep_fields.project,
    "serverInfo": viewer.server_info,
    "users": viewer.users,
    "viewer": viewer.viewer,
}

# What is computed before the transaction begins.
PREPARED: Mapping[str, Preparation] = {"upsertSweep": sweep.prepare_upsert_sweep}

MUTATIONS: Mapping[str, Resolver] = {
    "addAliases": aliases.add_aliases,
    "agentHeartbeat": agents.agent_heartbeat,
    "commitArtifact": queries.commit_artifact,
    "createAgent": agents.create_agent,
    "createArtifact": queries.create_artifact,
    "createArtifactCollectionTagAssignments": collection.add_tags,
    "createArtifactFiles": contents.create_artifact_files,
    "createArtifactManifest": manifest.create_artifact_manifest,
    "createRunFiles": files_listing.create_run_files,
    "deleteAliases": aliases.delete_aliases,
    "deleteArtifact": artifact.delete_artifact,
    "deleteArtifactCollectionTagAssignments": collection.delete_tags,
    "deleteArtifactPortfolio": artifact.delete_collection,
    "deleteArtifactSequence": artifact.delete_collection,
    "deleteFiles": files_deletion.delete_files,
    "deleteRun": lineage.delete_run,
    "enqueueSweepRun": queue.enqueue_sweep_run,
    "linkArtifact": queries.link_artifact,
    "moveArtifactSequence": queries.move_sequence,
    "markRunFilesUploaded": files_listing.mark_run_files_uploaded,
    "notifyScriptableRunAlert": alerts.notify_alert,
    "rewindRun": run_fields.rewind_run,
    "stopRun": run.stop_run,
    "unlinkArtifact": versions.unlink_artifact,
    "updateArtifact": queries.update_artifact,
    "updateArtifactManifest": manifest.update_artifact_manifest,
    "updateArtifactPortfolio": queries.update_collection,
    "updateArtifactSequence": queries.update_collection,
    "updateRunState": run.update_run_state,
    "upsertBucket": run_fields.upsert_bucket,
    "upsertModel": projects.upsert_model,
    "useArtifact": lineage.use_artifact,
}

INTROSPECTION = Introspection(QUERIES, [*MUTATIONS, *PREPARED])
