"""The root fields of the API: which function answers which."""

from __future__ import annotations

from collections.abc import Mapping

from wandb_submit.server import projects, viewer
from wandb_submit.server.context import Resolver
from wandb_submit.server.runs import fields as run_fields
from wandb_submit.server.runs import files_listing, run
from wandb_submit.server.sweeps import agents, sweep
from wandb_submit.server.sweeps import fields as sweep_fields

QUERIES: Mapping[str, Resolver] = {
    "entity": viewer.entity,
    "model": run_fields.model,
    "models": projects.models,
    "project": sweep_fields.project,
    "serverInfo": viewer.server_info,
    "viewer": viewer.viewer,
}

MUTATIONS: Mapping[str, Resolver] = {
    "agentHeartbeat": agents.agent_heartbeat,
    "createAgent": agents.create_agent,
    "createRunFiles": files_listing.create_run_files,
    "deleteRun": run.delete_run,
    "stopRun": run.stop_run,
    "upsertBucket": run_fields.upsert_bucket,
    "upsertModel": projects.upsert_model,
    "upsertSweep": sweep.upsert_sweep,
}
