"""What W&B offers and this server does not, by the fields that clients then ask for."""

from __future__ import annotations

from collections.abc import Mapping

_NOT_OFFERED: Mapping[str, str] = {
    "organizations": "organization",
    # An entity's one project: registries ask for it there, everybody else at the root.
    "registries": "project deleteModel renameProject members teamMembers createProjectMembers deleteProjectMembers"
    " updateProjectMember updateProjectTeamMember createArtifactType",
    "teams or users to manage": "createTeam createUser createInvite deleteInvite createServiceAccount",
    "further API keys": "generateApiKey deleteApiKey",
    "automations": "projects triggers createFilterTrigger updateFilterTrigger deleteTrigger",
    "integrations": "integrations createGenericWebhookIntegration",
    "custom charts": "createCustomChart",
    "reports": "view upsertView deleteView",
    "launch queues, agents or jobs": "runQueue runQueues createRunQueue upsertRunQueue deleteRunQueues"
    " defaultResourceConfig createDefaultResourceConfig pushToRunQueueByName popFromRunQueue ackRunQueueItem"
    " deleteFromRunQueue failRunQueueItem updateRunQueueItemWarning launchAgent createLaunchAgent updateLaunchAgent",
}
_THING = {field: thing for thing, fields in _NOT_OFFERED.items() for field in fields.split()}
# Where registries are kept at W&B, in projects of an organization.
REGISTRY_PREFIX = "wandb-registry-"
NO_REGISTRIES = "the offline sweep server offers no registries: link to a collection of a project"


def words(field: str, operation: str) -> str:
    """Says that a field is not there, and what it would have been of use for."""
    if field in _THING:
        return f"the offline sweep server offers no {_THING[field]} (no field {field!r}, which {operation} asks for)"
    return f"the offline sweep server has no field {field!r}, which {operation} asks for"
