"""`trainfit estimate`: the API on standard input and output."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from app.api.body import parse_json, parse_request
from app.cli import EXIT_CODES
from app.cli.check import VERDICT_CODES
from app.cli.console import Console
from app.problems import Problem

EPILOG = f"""\
One JSON object gives one answer. JSON Lines give one line for each line, in order; a line that cannot be answered
gives a problem object with its `code`, `field`, `value` and what is `accepted`.

  echo '{{"model": {{"id": "meta-llama/Llama-3.1-8B"}}}}' | trainfit estimate -

{EXIT_CODES}
With several lines it is the highest of theirs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, and whether advice is wanted."""
    parser.add_argument("file", metavar="FILE", help="a file of requests, or - for standard input")
    parser.add_argument("--no-advice", action="store_true", help="leave out what would change the answer")
    parser.add_argument("--json", action="store_true", help="accepted for symmetry: the output is always JSON")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Answer every request, and return the highest exit code."""
    try:
        if arguments.file == "-":
            return _answer_all(console.source, not arguments.no_advice, console)
        with Path(arguments.file).open(encoding="utf-8") as file:
            return _answer_all(file, not arguments.no_advice, console)
    except BrokenPipeError:
        raise
    except UnicodeDecodeError:
        name = "standard input" if arguments.file == "-" else arguments.file
        console.complain(f"error: {name} cannot be read: it is not UTF-8")
        return 2
    except OSError as error:
        console.complain(f"error: {arguments.file} cannot be read: {error.strerror}")
        return 2


def _answer_all(source: TextIO, advice: bool, console: Console) -> int:
    from app.plans import Plans
    from app.settings import Settings

    plans = Plans(Settings())
    highest = 0
    for text in documents(source):
        line, code = _answer(plans, text, advice)
        console.write(line)
        highest = max(highest, code)
    return highest


def documents(source: Iterable[str]) -> Iterator[str]:
    """The JSON documents of a text: its lines, unless the first line is no document by itself."""
    lines = iter(source)
    filled = (line for line in lines if line.strip())
    first = next(filled, "")
    if _is_json(first):
        yield from itertools.chain([first], filled)
    else:
        yield "".join(itertools.chain([first], lines))


def _is_json(text: str) -> bool:
    try:
        parse_json(text)
    except Problem:
        # A broken line of JSON Lines is complete all the same; the opening of a document over several lines is not.
        return text.lstrip().startswith("{") and text.rstrip().endswith("}")
    return True


def _answer(plans: Any, text: str, advice: bool) -> tuple[str, int]:
    try:
        answer = plans.answer(parse_request(parse_json(text)), advice=advice)
    except Problem as problem:
        return problem.json(), 2
    return answer.model_dump_json(), VERDICT_CODES[answer.verdict]
