"""The optional packages that the server needs, and the one line that installs what is missing."""

from __future__ import annotations

import importlib.util

from wandb_submit.errors import ConfigError

# What the extra `offline` installs, by the modules that are imported: on Python 3.13 and newer, everything but
# the search engine, whose metadata pins a numpy that does not exist there (it runs with numpy 2).
_EXTRA = (
    "graphql",
    "jinja2",
    "starlette",
    "uvicorn",
    "jsonref",
    "jsonschema",
    "numpy",
    "pydantic",
    "scipy",
    "sklearn",
)
_ENGINE = "sweeps"


def check_installed() -> None:
    """Makes sure that the server can be imported.

    Raises:
        ConfigError: if packages are missing; it names the line that installs them.
    """
    lacking = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if lacking:
        raise ConfigError(
            "the offline sweep server needs packages that are not installed "
            f"({', '.join(lacking)}): pip install 'wandb-submit[offline]'"
        )
    if importlib.util.find_spec(_ENGINE) is None:
        raise ConfigError("the offline sweep server needs W&B's search engine: pip install --no-deps sweeps")
