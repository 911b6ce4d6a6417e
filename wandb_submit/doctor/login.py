"""W&B from here: where it is, whether it answers, whether it knows us."""

from __future__ import annotations

import os
from collections.abc import Iterator

from wandb_submit.doctor.finding import Finding, Verdict
from wandb_submit.errors import ConfigError, NotLoggedInError, UnavailableError
from wandb_submit.wandb_api import sweeps
from wandb_submit.wandb_api.credentials import check_mode


def findings() -> Iterator[Finding]:
    """Checks the login; who always uses --offline needs none, so that it is never a failure."""
    without = "or use --offline, which runs sweeps without W&B"
    try:
        check_mode(os.environ)
        endpoint = sweeps.default_endpoint()
        sweeps.greet(endpoint)
    except ConfigError as error:
        yield Finding(topic="W&B", words=str(error), verdict=Verdict.FAILED, remedy=f"correct the setting, {without}")
    except NotLoggedInError as error:
        yield Finding(
            topic="W&B",
            words=f"{error} (the address is from {sweeps.address_origin()})",
            verdict=Verdict.WARNING,
            remedy="--offline runs sweeps without W&B",
        )
    except UnavailableError as error:
        yield Finding(
            topic="W&B",
            words=f"{error} (the address is from {sweeps.address_origin()})",
            verdict=Verdict.WARNING,
            remedy=f"see {sweeps.address_origin()} and the proxy's variables, {without}",
        )
    else:
        yield Finding(topic="W&B", words=f"{endpoint.base_url} ({sweeps.address_origin()}) answers and knows you")
