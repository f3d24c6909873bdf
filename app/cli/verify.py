"""`trainfit verify`: one plan, checked against the library's own code."""

from __future__ import annotations

import argparse

from app.cli import EXIT_CODES, check
from app.cli.console import Console
from app.problems import Problem

USAGE = "trainfit verify MODEL [--device ID] [--method METHOD] [--sequence-length N] [...]"
EPILOG = f"""\
example:
  trainfit verify meta-llama/Llama-3.1-8B --device nvidia-rtx-4090-24gb --method qlora --sequence-length 4096

Takes what `trainfit check` takes. The model is built without memory and two optimizer steps of it are traced, in a
process with a memory cap and a deadline (TRAINFIT_VERIFICATION_SECONDS, TRAINFIT_VERIFICATION_MEMORY_GIB). Loading
torch and transformers takes some seconds.

{EXIT_CODES}"""

add_arguments = check.add_arguments


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Answer, and return the verdict's exit code."""
    from app.plans import Plans
    from app.settings import Settings

    plans = Plans(Settings())
    try:
        answer = plans.verified(check.request_of(arguments, console), advice=not arguments.no_advice)
    except Problem as problem:
        check.show_problem(problem, arguments.json, console)
        return 2
    finally:
        plans.close()
    check.show(answer, arguments.json, console)
    return check.VERDICT_CODES[answer.verdict]
