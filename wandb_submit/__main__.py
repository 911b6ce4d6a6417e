"""The `wandb-submit` program."""

from __future__ import annotations


def main() -> None:
    """Runs the command line and exits with its status."""
    from wandb_submit.cli import run

    run()


if __name__ == "__main__":
    main()
