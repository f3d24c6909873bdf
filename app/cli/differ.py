"""`trainfit differ`: why a measured run is not what was estimated."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from app.cli import check
from app.cli.answer_text import wrapped
from app.cli.console import Console
from app.problems import Problem
from app.web.numbers import gib, rate
from planner.observed import MAXIMUM_CHARACTERS, Explanation, Finding
from planner.units import format_seconds

USAGE = "trainfit differ MODEL --observed FILE [--device ID] [--method METHOD] [...]"
EPILOG = """\
examples:
  nvidia-smi | trainfit differ meta-llama/Llama-3.1-8B --device nvidia-rtx-4090-24gb --method qlora --observed -
  trainfit differ plan.yaml --observed train.log

The text is what nvidia-smi or torch.cuda.memory_summary() printed, an OutOfMemoryError's message, or a trainer's log.

exit codes:
  0  every figure is as estimated
  1  some differ
  2  no figure was recognised, or the question has an error
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `trainfit check` takes, and the text."""
    check.add_arguments(parser)
    parser.add_argument("--observed", metavar="FILE", required=True, help="the text, or - for standard input")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Explain; 0 when nothing differs."""
    from pydantic import TypeAdapter

    from app.plans import Plans
    from app.settings import Settings

    try:
        text = _text(arguments.observed, console)
        _, explanation = Plans(Settings()).explain(check.request_of(arguments, console), text)
    except Problem as problem:
        check.show_problem(problem, arguments.json, console)
        return 2
    if arguments.json:
        console.write(TypeAdapter(Explanation).dump_json(explanation, indent=2).decode())
    else:
        console.write("\n".join(_lines(explanation, console)))
    return 0 if all(finding.agrees for finding in explanation.findings) else 1


def _text(name: str, console: Console) -> str:
    """The end of a text: of a long log the last lines say most."""
    try:
        if name == "-":
            return console.source.read()[-MAXIMUM_CHARACTERS:]
        with Path(name).open(encoding="utf-8", errors="replace") as file:
            return file.read()[-MAXIMUM_CHARACTERS:]
    except UnicodeDecodeError as error:
        raise Problem("unreadable_text", "standard input is not UTF-8", field="observed") from error
    except OSError as error:
        raise Problem("unreadable_text", f"{name} cannot be read: {error.strerror}", field="observed") from error


def _lines(explanation: Explanation, console: Console) -> Iterator[str]:
    yield console.paint(f"Read from: {', '.join(explanation.observation.sources)}", "dim")
    for note in explanation.notes:
        yield f"! {note}"
    for finding in explanation.findings:
        mark, colour = ("✓", "green") if finding.agrees else ("≠", "yellow")
        least = "at least " if finding.at_least else ""
        figures = f"estimated {_said(finding, finding.estimated)}, measured {least}{_said(finding, finding.measured)}"
        yield f"{console.paint(mark, colour, 'bold')} {console.paint(finding.label, 'bold')}: {figures}"
        yield wrapped(finding.why, console, "    ")
    if explanation.suspects:
        yield "What would explain the figure"
    for suspect in explanation.suspects:
        side = "below" if suspect.remaining_bytes > 0 else "above"
        far = f"{gib(abs(suspect.remaining_bytes))} {side} what was measured"
        yield f"  · {suspect.title}: gives {gib(suspect.predicted_bytes)}, {far}"


def _said(finding: Finding, value: float) -> str:
    if finding.term == "step_seconds":
        return format_seconds(value)
    return rate(value) if finding.term == "tokens_per_second" else gib(value)
