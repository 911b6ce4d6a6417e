"""The documentation site: `make docs` builds it, with warnings as errors."""

from importlib.metadata import version as installed

project = "wandb-submit"
author = "The wandb-submit authors"
copyright = author  # noqa: A001 Sphinx's name
release = version = installed("wandb-submit")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "wandb-submit"
nitpicky = False
