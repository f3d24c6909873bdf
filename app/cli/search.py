"""`trainfit search`: fix anything, free anything, and see what is best."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from app.cli import check
from app.cli.console import Console
from app.problems import Problem
from app.searches import QUESTIONS, constraint, described, parsed, path_of
from app.web.numbers import gib, rate
from planner.contract import EstimateRequest
from planner.search import Constraints, SearchAnswer, SearchPlan
from planner.units import format_seconds

USAGE = "trainfit search MODEL [--free FIELD=VALUE,VALUE] [...] [--hours N] [--budget-usd N] [flags of check]"
EPILOG = """\
examples:
  trainfit search meta-llama/Llama-3.1-8B --device nvidia-rtx-4090-24gb --free method=lora,qlora \\
      --free micro_batch_size=1,2,4,8 --free sequence_length=1024,2048,4096
  trainfit search Qwen/Qwen3-8B --free 'offer=*' --method qlora --tokens 10000000 --budget-usd 5
  trainfit search meta-llama/Llama-3.1-8B --method full --free 'method=*' --free activation_checkpointing=none,full

A field is named as its flag of `trainfit check`, or as in the API (run.lora.rank); `*` is every value that it has.
Without --free, method, checkpointing, micro-batch and sequence length are free.

exit codes:
  0  something keeps the constraints
  1  nothing does
  2  the question has an error
"""
TYPICAL_FREE = (
    "method=*",
    "activation_checkpointing=none,full",
    "micro_batch_size=1,2,4,8,16",
    "sequence_length=512,1024,2048,4096,8192",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is free, what must hold, and the flags of `check` for all that is fixed."""
    parser.add_argument("--free", action="append", default=[], metavar="FIELD=VALUES", help="a field and its values")
    parser.add_argument("--limit", type=int, default=10, metavar="N", help="how many plans to show (default: 10)")
    group = parser.add_argument_group("constraints")
    for name in Constraints.model_fields:
        flag = "--" + name.replace("_", "-")
        group.add_argument(flag, dest=f"constraint.{name}", metavar="VALUE", help=_CONSTRAINTS[name])
    check.add_arguments(parser)


_CONSTRAINTS = {
    "verdict": "the worst verdict that is taken: fits (default), tight or any",
    "hours": "finish `--tokens` within this many hours",
    "budget_usd": "finish `--tokens` for at most this many dollars",
    "vendor": "vendors of the device, separated by commas",
    "minimum_sequence_length": "at least this sequence length",
    "minimum_micro_batch_size": "at least this micro-batch",
    "minimum_rank": "at least this rank, where there are adapters",
    "minimum_tokens_per_second": "at least this many tokens per second",
    "minimum_headroom_gib": "at least this much memory to spare, GiB",
}


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Search, and say what was found."""
    from app.plans import Plans
    from app.searches import answer_search, parse_search
    from app.settings import Settings

    try:
        base = check.request_of(arguments, console)
        asked = parse_search(_document(arguments, base))
    except Problem as problem:
        check.show_problem(problem, arguments.json, console)
        return 2
    try:
        answer = answer_search(Plans(Settings()), asked)
    except Problem as problem:
        check.show_problem(_with_flags(problem), arguments.json, console)
        return 2
    console.write(answer.model_dump_json(indent=2) if arguments.json else "\n".join(_text(answer, console)))
    return 0 if answer.feasible else 1


def _with_flags(problem: Problem) -> Problem:
    """A limit of time or money without how much is trained, in the words of the command line; others as they are."""
    document = problem.document
    if document.field not in ("constraints.hours", "constraints.budget_usd"):
        return problem
    asked = "--" + document.field.removeprefix("constraints.").replace("_", "-")
    return Problem(
        document.code,
        f"{asked} needs to know how much is trained: add --tokens N, or --examples N",
        field=document.field,
        value=document.value,
        accepted="--tokens or --examples, given or free",
    )


def _document(arguments: argparse.Namespace, base: EstimateRequest) -> dict[str, Any]:
    return {
        "base": base,
        "free": dict(_free(text) for text in arguments.free or TYPICAL_FREE),
        "constraints": _constraints(arguments),
        "limit": arguments.limit,
    }


def _free(text: str) -> tuple[str, list[Any]]:
    """Path and values of `method=lora,qlora`.

    Raises:
        Problem: there is no `=`.
    """
    name, equals, values = text.partition("=")
    if not equals or not values.strip():
        raise Problem(
            "invalid_search", f"--free {text!r} has no values", field="free", value=text, accepted="FIELD=A,B"
        )
    path = path_of(name.strip())
    return path, [parsed(path, value) for value in values.split(",")]


def _constraints(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(arguments, f"constraint.{name}") for name in Constraints.model_fields}
    return {name: constraint(name, text) for name, text in given.items() if text is not None}


def _text(answer: SearchAnswer, console: Console) -> Iterator[str]:
    yield console.paint(answer.summary + ".", "bold")
    if answer.base_verdict is not None:
        yield f"The plan as it was asked: {answer.base_verdict.replace('_', ' ')}."
    if answer.plans:
        yield ""
        yield console.paint("Each way of training at its fastest, best quality first", "bold")
        yield from _table(answer.plans)
        yield ""
        more = f", the first {len(answer.frontier)} of {answer.frontier_total}"
        yield console.paint(f"Beaten by no other{more if answer.frontier_total > len(answer.frontier) else ''}", "bold")
        yield from _table(answer.frontier)
        yield ""
        yield from _winners(answer, console)
    yield from _refused(answer, console)
    oldest, newest = answer.prices_as_of
    text = f"quality is an order from papers, not a measurement · prices from {oldest} to {newest}"
    yield console.paint(f"{text} · estimator {answer.estimator_version} · catalogue {answer.catalog_version}", "dim")


def _table(plans: Sequence[SearchPlan]) -> Iterator[str]:
    rows = [_row(plan) for plan in plans]
    header = ("quality", "needs", "tokens/s", "to finish", "cost", "plan")
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header) - 1)]
    for row in (header, *rows):
        first, *numbers, last = row
        aligned = [first.ljust(widths[0]), *(text.rjust(w) for text, w in zip(numbers, widths[1:], strict=True))]
        yield "  " + "  ".join([*aligned, last])


def _row(plan: SearchPlan) -> tuple[str, ...]:
    return (
        plan.quality.name,
        gib(plan.required_bytes),
        "—" if plan.tokens_per_second is None else rate(plan.tokens_per_second),
        "—" if plan.seconds_to_finish is None else format_seconds(plan.seconds_to_finish),
        "—" if plan.cost_usd is None else f"${plan.cost_usd:,.2f}",
        described(plan),
    )


def _winners(answer: SearchAnswer, console: Console) -> Iterator[str]:
    width = max(len(words) for words in QUESTIONS.values())
    for name, words in QUESTIONS.items():
        plan = answer.best.get(name)
        if plan is not None:
            yield f"  {console.paint(words.ljust(width), 'bold')}  {plan.quality.name}; {described(plan)}"


def _refused(answer: SearchAnswer, console: Console) -> Iterator[str]:
    if answer.refused:
        yield ""
        yield console.paint("Not among them", "bold")
    for reason in answer.refused[:10]:
        yield f"  {reason.count:>9,}  {reason.message}"
    if answer.repeated:
        yield f"  {answer.repeated:>9,}  say the same as another"
