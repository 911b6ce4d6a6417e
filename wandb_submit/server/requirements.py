"""The optional packages that the server needs, and the one line that installs what is missing."""

from __future__ import annotations

import importlib.util

from wandb_submit.errors import ConfigError

_WEB = ("starlette", "uvicorn")
_ENGINE = "sweeps"
# What the engine imports, by module and by package. Its metadata pins numpy<2 though it runs with numpy 2, so
# people install it without its dependencies to keep their numpy.
_ENGINE_NEEDS = {
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "jsonschema": "jsonschema",
    "jsonref": "jsonref",
    "pydantic": "pydantic",
}


def check_installed() -> None:
    """Makes sure that the server can be imported.

    Raises:
        ConfigError: if packages are missing; it names the line that installs them.
    """
    lacking = {name for name in (*_WEB, _ENGINE, *_ENGINE_NEEDS) if importlib.util.find_spec(name) is None}
    if lacking & set(_WEB):
        raise ConfigError(
            "the offline sweep server needs packages that are not installed "
            f"({', '.join(sorted(lacking))}): pip install 'wandb-submit[offline]'"
        )
    if lacking:
        commands = ["pip install --no-deps sweeps"] if _ENGINE in lacking else []
        needs = [package for module, package in _ENGINE_NEEDS.items() if module in lacking]
        if needs:
            commands.append(f"pip install {' '.join(needs)}")
        raise ConfigError(f"the offline sweep server needs W&B's search engine: {' && '.join(commands)}")
