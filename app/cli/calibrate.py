"""`trainfit calibrate`: measure what this machine's device really does, so that every later answer rests on it."""

from __future__ import annotations

import argparse

from app.cli.console import Console

EPILOG = """\
Runs a fixed set of short jobs on the best device of this machine, in at most a few minutes. Where no worker answers,
one is started for the time of the job. Ctrl-C cancels it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How to print it."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--deadline-seconds", type=float, default=600.0, help="when to give up (default: 600)")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Submit, follow, show."""
    from app.cli.following import run_job
    from app.jobs.service import Order

    order = Order("calibrate", deadline_seconds=arguments.deadline_seconds)
    return run_job(order, as_json=arguments.json, console=console)
