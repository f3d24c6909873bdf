"""`trainfit report`: comparisons that are kept, in the same database as the server's."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli import check
from app.cli.console import Console
from app.problems import Problem

if TYPE_CHECKING:
    from app.reports.document import ReportDocument, ReportSummary
    from app.reports.service import Reports

USAGE = "trainfit report {create,list,show,export,delete} [...]"
EPILOG = """\
examples:
  trainfit report create laptop.yaml rented.yaml kaggle.yaml --title "Which machine?"
  trainfit report list qwen 4090
  trainfit report show ID
  trainfit report export ID --format png --output comparison.png
  trainfit report delete ID

A plan is a file in the API's form, the id of a model, which is then planned on this machine, or job:ID, which is what a
job has verified or measured. Reports are in the
database of TRAINFIT_DATABASE_URL, else in the data folder: those of `trainfit serve` on the same computer, at /r/ID.

exit codes:
  0  done
  2  there is no such report, or the question has an error"""
JOB = "job:"
FORMATS = ("md", "csv", "json", "svg", "png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One set of flags for each thing that can be done."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", prog="trainfit report")
    create = actions.add_parser("create", help="answer 2 to 8 plans and keep the comparison")
    create.add_argument("plans", nargs="+", metavar="PLAN", help="a plan (.yaml or .json), a model's id, or job:ID")
    create.add_argument("--verify", action="store_true", help="hold each plan against the library's own code first")
    create.add_argument("--title", default="", help="one line (default: made from the plans)")
    create.add_argument("--notes", default="", help="a text for whoever reads it")
    create.add_argument("--baseline", type=int, default=0, metavar="N", help="the plan to compare with, from 0")
    listing = actions.add_parser("list", help="the reports that are kept, newest first")
    listing.add_argument("words", nargs="*", metavar="WORD", help="what must occur in title, notes, model or machine")
    listing.add_argument("--limit", type=int, default=20, metavar="N", help="how many (default: 20)")
    for name, text in (("show", "one report"), ("delete", "delete a report"), ("export", "one report for other uses")):
        chosen = actions.add_parser(name, help=text)
        chosen.add_argument("id", metavar="ID")
        if name == "export":
            chosen.add_argument("--format", choices=FORMATS, default="md", help="default: md")
            chosen.add_argument("--output", type=Path, metavar="FILE", help="where to write (default: standard output)")
    for action in actions.choices.values():
        action.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Do what was asked."""
    try:
        with _reports() as reports:
            _ACTIONS[arguments.action](reports, arguments, console)
    except Problem as problem:
        check.show_problem(problem, arguments.json, console)
        return 2
    return 0


@contextmanager
def _reports() -> Generator[Reports]:
    from app.db.opened import OpenedDatabase
    from app.jobs.service import JobService
    from app.plans import Plans
    from app.reports.service import Reports
    from app.settings import Settings

    settings = Settings()
    database, plans = OpenedDatabase(settings), Plans(settings)
    jobs = JobService(plans, database)
    try:
        yield Reports(plans, database, jobs.get)
    finally:
        jobs.close()
        plans.close()
        database.close()


def _create(reports: Reports, arguments: argparse.Namespace, console: Console) -> None:
    from app.reports.document import ReportCreated, parse_report

    plans = [_wanted(name, console, verify=arguments.verify) for name in arguments.plans]
    words = {"title": arguments.title, "notes": arguments.notes, "baseline": arguments.baseline}
    document, token = reports.create(parse_report({**words, "requests": plans}))
    if arguments.json:
        console.write(ReportCreated(id=document.id, url=document.url, edit_token=token).model_dump_json())
        return
    _write_text(document, console)
    console.write()
    console.write(f"kept as {document.id}; on the server's page {document.url}")
    console.write(f"to edit it over REST: Authorization: Bearer {token}")


def _wanted(name: str, console: Console, *, verify: bool) -> dict[str, Any]:
    """A plan in the API's form: what a job found, or a plan to verify or to estimate."""
    if name.startswith(JOB):
        return {"job": name.removeprefix(JOB)}
    plan = check.plan_of(name, console)
    return {"verify": plan} if verify else plan


def _list(reports: Reports, arguments: argparse.Namespace, console: Console) -> None:
    wanted = reports.filter(" ".join(arguments.words), {})
    page = reports.page(wanted, max(1, min(arguments.limit, 10_000)))
    if arguments.json:
        console.write(page.model_dump_json())
        return
    for report in page.items:
        console.write(_line(report, console))
    left = reports.count(wanted) - len(page.items)
    if not page.items:
        console.write("no report is kept" + (" with these words" if arguments.words else ""))
    elif left > 0:
        console.write(f"and {left:,} older: --limit {len(page.items) + left}")


def _line(report: ReportSummary, console: Console) -> str:
    from app.web.result import VERDICTS

    verdicts = ", ".join(VERDICTS[plan.verdict][0].lower() for plan in report.plans)
    return f"{report.id}  {report.created_at:%Y-%m-%d}  {console.paint(report.title, 'bold')}  ({verdicts})"


def _show(reports: Reports, arguments: argparse.Namespace, console: Console) -> None:
    document = reports.get(arguments.id)
    if arguments.json:
        console.write(document.model_dump_json(indent=2))
    else:
        _write_text(document, console)


def _write_text(document: ReportDocument, console: Console) -> None:
    """The report in a terminal: each plan's sentence, then the rows in which they differ."""
    from app.reports.service import saved_comparison

    comparison = saved_comparison(document, document.baseline)
    console.write(console.paint(document.title, "bold"))
    console.write(f"computed {document.created_at:%Y-%m-%d} with estimator {document.answers[0].estimator_version}")
    if document.notes:
        console.write(document.notes)
    for plan in comparison.plans:
        console.write(f"  {console.paint(plan.letter, 'bold')} {plan.word}: {plan.name}. {plan.answer.summary}")
    base = comparison.plans[comparison.baseline].letter
    for group in comparison.only_differences():
        console.write()
        console.write(console.paint(group.label, "bold") + f", the difference from {base} first")
        for row in group.rows:
            apart = "; ".join(f"{difference.letter} {difference.text}" for difference in row.differences)
            values = "   ".join(
                f"{plan.letter} {cell.text}{' (best)' if cell.is_best else ''}"
                for plan, cell in zip(comparison.plans, row.cells, strict=True)
            )
            console.write(f"  {row.label}: {apart or 'as the baseline'}   |   {values}")


def _export(reports: Reports, arguments: argparse.Namespace, console: Console) -> None:
    content = _exported(reports.get(arguments.id), arguments.format)
    if arguments.output is not None:
        try:
            arguments.output.write_bytes(content)
        except OSError as error:
            raise Problem(
                "invalid_request", f"{arguments.output} cannot be written: {error.strerror}", field="output"
            ) from error
    elif arguments.format == "png":
        sys.stdout.buffer.write(content)
    else:
        console.write(content.decode().rstrip("\n"))


def _exported(document: ReportDocument, form: str) -> bytes:
    from app.reports import export
    from app.reports.service import saved_comparison

    comparison = saved_comparison(document, document.baseline)
    if form == "json":
        return document.model_dump_json(indent=2).encode()
    if form == "csv":
        return export.to_csv(comparison).encode()
    if form == "md":
        return export.to_markdown(document, comparison, None).encode()
    svg = export.to_svg(document.title, comparison, document.created_at)
    return svg.encode() if form == "svg" else export.to_png(svg)


def _delete(reports: Reports, arguments: argparse.Namespace, console: Console) -> None:
    reports.delete_as_operator(arguments.id)
    console.write(json.dumps({"deleted": arguments.id}) if arguments.json else f"deleted {arguments.id}")


_ACTIONS: Mapping[str, Callable[[Reports, argparse.Namespace, Console], None]] = {
    "create": _create,
    "list": _list,
    "show": _show,
    "export": _export,
    "delete": _delete,
}
