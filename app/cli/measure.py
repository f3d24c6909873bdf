"""`trainfit measure`: run a plan for some steps and show what was predicted beside what was measured."""

from __future__ import annotations

import argparse

from app.cli import check
from app.cli.console import Console
from app.problems import Problem

USAGE = "trainfit measure MODEL [--method METHOD] [--sequence-length N] [--steps N] [...]"
EPILOG = """\
example:
  trainfit measure Qwen/Qwen2.5-0.5B --method lora --sequence-length 512

Takes what `trainfit check` takes. The model is built with random weights; nothing is downloaded. Where no worker with
that device answers, one is started on this machine for the time of the job. Ctrl-C cancels it.

exit codes:
  0  it was measured
  1  it ran out of memory, failed, took too long or was cancelled
  2  the question has an error"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `check`, and how much to measure."""
    check.add_arguments(parser)
    parser.add_argument("--steps", type=int, default=10, help="most steps to measure (default: 10)")
    parser.add_argument(
        "--depth", type=_depth, help="layers to build, or auto: as many as fit; the result is extended to all of them"
    )
    parser.add_argument("--deadline-seconds", type=float, default=600.0, help="when to give up (default: 600)")


def _depth(text: str) -> int:
    from app.jobs.service import AS_DEEP_AS_FITS

    if text == "auto":
        return AS_DEEP_AS_FITS
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is neither a number of layers nor auto")
    return int(text)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Submit, follow, show."""
    from app.cli.following import run_job
    from app.jobs.service import Order

    try:
        request = check.request_of(arguments, console)
    except Problem as problem:
        check.show_problem(problem, arguments.json, console)
        return 2
    order = Order(
        "measure",
        request=request,
        steps=arguments.steps,
        depth=arguments.depth,
        deadline_seconds=arguments.deadline_seconds,
    )
    return run_job(order, as_json=arguments.json, console=console)
