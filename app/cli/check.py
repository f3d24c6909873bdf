"""`trainfit check`: one plan, from flags or a file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.api.body import parse_json, parse_request
from app.cli import EXIT_CODES
from app.cli.answer_text import answer_text
from app.cli.console import Console
from app.hub import parse_config
from app.knobs import Knob, knobs, unflatten
from app.problems import Problem
from planner.contract import Answer, EstimateRequest

USAGE = "trainfit check MODEL [--device ID] [--method METHOD] [--sequence-length N] [...]"
EPILOG = f"""\
examples:
  trainfit check meta-llama/Llama-3.1-8B --device nvidia-rtx-4090-24gb --method qlora --sequence-length 4096
  trainfit check ./my-model --method full
  trainfit check plan.yaml && accelerate launch train.py

What is left out takes a typical value; the answer lists each one. Flags change what a plan file says.

{EXIT_CODES}"""
VERDICT_CODES: Mapping[str, int] = {"fits": 0, "tight": 1, "does_not_fit": 1, "unsupported": 1, "not_modelled": 2}
MAXIMUM_FILE_BYTES = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags: one for each field of the contract."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a model's id, a folder with its config.json, a plan (.yaml or .json) in the API's form, or - for a plan "
        "from standard input",
    )
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    parser.add_argument("--no-advice", action="store_true", help="leave out what would change the answer")
    groups = {
        "machine": parser.add_argument_group("machine"),
        "run": parser.add_argument_group("run"),
    }
    for knob in knobs():
        _add_flag(groups[knob.path[0]], knob)


def flag(knob: Knob) -> str:
    """The name of a knob on the command line."""
    name = f"custom-{knob.name}" if knob.name.startswith("device.") else knob.name
    return "--" + name.replace(".", "-").replace("_", "-")


def _add_flag(group: Any, knob: Knob) -> None:
    metavar = "{" + ",".join(knob.choices) + "}" if knob.choices else _METAVARS[knob.type]
    default = "" if knob.default is None or knob.default == [] else f" (default: {knob.format(knob.default)})"
    text = (knob.help or knob.label).replace("%", "%%") + default
    bare: dict[str, Any] = {"nargs": "?", "const": "true"} if knob.type == "flag" else {}
    group.add_argument(flag(knob), dest=knob.name, metavar=metavar, help=text, **bare)


_METAVARS = {"text": "NAME", "integer": "N", "number": "X", "flag": "true|false", "list": "NAMES"}


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Answer, and return the verdict's exit code."""
    from app.plans import Plans
    from app.settings import Settings

    try:
        request = request_of(arguments, console)
        answer = Plans(Settings()).answer(request, advice=not arguments.no_advice)
    except Problem as problem:
        show_problem(problem, arguments.json, console)
        return 2
    show(answer, arguments.json, console)
    return VERDICT_CODES[answer.verdict]


def show(answer: Answer, as_json: bool, console: Console) -> None:
    """The answer for programs or for people."""
    console.write(answer.model_dump_json(indent=2) if as_json else answer_text(answer, console))


def show_problem(problem: Problem, as_json: bool, console: Console) -> None:
    """An error for programs or for people."""
    if as_json:
        console.write(problem.json())
    else:
        complain(problem, console)


def complain(problem: Problem, console: Console) -> None:
    """An error for people: what is wrong, with each field that is at fault."""
    console.complain(console.paint("error: ", "red", "bold") + problem.document.detail)
    for violation in problem.document.errors[1:]:
        console.complain(f"       {violation.message}")


def request_of(arguments: argparse.Namespace, console: Console) -> EstimateRequest:
    """The request that model, file and flags mean together.

    Raises:
        Problem: a field breaks the contract, or a file cannot be read.
    """
    flat = {knob.name: value for knob in knobs() if (value := getattr(arguments, knob.name)) is not None}
    _say_what_was_understood(flat, console)
    plan = plan_of(arguments.model, console)
    sections = {name: given for name, given in unflatten(flat).items() if isinstance(plan.get(name), dict | None)}
    values = _merged(plan, sections)  # a section that is no object stays, for the contract's check to refuse it
    if arguments.revision is not None and isinstance(values.get("model"), dict):
        values["model"] = {**values["model"], "revision": arguments.revision}
    return parse_request(values)


def _say_what_was_understood(flat: Mapping[str, str], console: Console) -> None:
    """Beside the output: the number behind a suffix, because `k` is 1,024 of a sequence and 1,000 of tokens."""
    for knob in knobs():
        text = flat.get(knob.name, "")
        value = knob.parse(text) if knob.type == "integer" else None
        if isinstance(value, int) and text.strip()[-1:].isalpha():
            console.complain(f"{flag(knob)} {text} understood as {value:,}")


def _merged(plan: dict[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags over the plan, section by section."""
    merged = dict(plan)
    for name, value in flags.items():
        inner = merged.get(name)
        merged[name] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value  # pyright: ignore[reportUnknownArgumentType]
    return merged


def plan_of(model: str, console: Console) -> dict[str, Any]:
    """The plan that a name means: a file, standard input, or a model."""
    if model == "-":
        return _plan_of(_standard_input(console), "standard input", is_yaml=None)
    path = Path(model)
    if path.suffix.casefold() in (".yaml", ".yml", ".json") and not path.is_dir():
        return _plan_of(_read(path), model, is_yaml=path.suffix.casefold() != ".json")
    return {"model": {"id": model}}


def _standard_input(console: Console) -> str:
    try:
        return console.source.read(MAXIMUM_FILE_BYTES + 1)
    except UnicodeDecodeError as error:
        raise Problem(
            "invalid_json", "standard input is not UTF-8", field="body", accepted="a plan in UTF-8"
        ) from error


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MAXIMUM_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise Problem(
            "invalid_request",
            f"there is no plan file {path}: its folder is {path.absolute().parent}",
            field="body",
            value=str(path),
            accepted="a plan file (.yaml or .json), a folder with a config.json, or a model's id",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise Problem("invalid_request", f"the plan file {path} cannot be read: {error}", field="body") from error


def _plan_of(text: str, name: str, *, is_yaml: bool | None) -> dict[str, Any]:
    """A plan, or a bare config.json, from a text; None: YAML where it is not JSON."""
    if len(text) > MAXIMUM_FILE_BYTES:
        raise Problem("too_large", f"{name} is larger than 1 MiB", field="body")
    if not text.strip():
        raise Problem("invalid_request", f"{name} is empty", field="body", accepted="a plan in the API's form")
    values = _values(text, name, is_yaml)
    if not isinstance(values, dict):
        raise Problem("invalid_request", f"{name} holds no object", field="body", accepted="a plan in the API's form")
    if "model_type" in values:
        return {"model": {"config": parse_config(text)}}
    return values  # pyright: ignore[reportUnknownVariableType]


def _values(text: str, name: str, is_yaml: bool | None) -> Any:
    if is_yaml:
        return _yaml(text, name)
    try:
        return parse_json(text)
    except Problem:
        if is_yaml is False or text.lstrip().startswith("{"):
            raise
    return _yaml(text, name)


def _yaml(text: str, name: str) -> Any:
    import yaml

    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date of month 13 is a ValueError
        raise Problem("invalid_json", f"{name} is not YAML: {error}", field="body") from error
    _read_suffixes(values)
    return values


def _read_suffixes(values: Any) -> None:
    """The integers that people write with a suffix, in place: `sequence_length: 4k` means what the flag means."""
    for knob in knobs():
        *parents, last = knob.path
        section: Any = values
        for name in parents:
            section = section.get(name) if isinstance(section, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        text: Any = section.get(last) if isinstance(section, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if knob.type == "integer" and isinstance(text, str):
            section[last] = knob.parse(text)
