"""The pages' addresses. They have W&B's own shape, so that what `wandb` prints in a terminal can be clicked."""

from __future__ import annotations

from urllib.parse import quote, urlencode


def project_url(entity: str, project: str) -> str:
    """A project's page."""
    return "/" + _joined(entity, project)


def sweep_url(entity: str, project: str, sweep: str) -> str:
    """A sweep's page."""
    return "/" + _joined(entity, project, "sweeps", sweep)


def run_url(entity: str, project: str, run: str) -> str:
    """A run's page."""
    return "/" + _joined(entity, project, "runs", run)


def file_url(entity: str, project: str, run: str, name: str) -> str:
    """Where a run's file is downloaded."""
    return "/storage/" + _joined(entity, project, run, *name.split("/"))


def with_query(**parameters: object) -> str:
    """The same page with other parameters; those that are None or empty are left out."""
    return "?" + urlencode({name: value for name, value in parameters.items() if value not in (None, "")})


def _joined(*parts: str) -> str:
    return "/".join(quote(part, safe="") for part in parts)
