"""The offline sweep server: W&B's HTTP API, as far as sweeps need it, over SQLite.

The unmodified `wandb` client talks to it. Nothing is imported here, so that the command line can load
`lifecycle` without the optional packages that the server itself needs.
"""
