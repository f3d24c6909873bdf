"""`trainfit evaluate`: how far predictions are from what was measured."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from app.cli.console import Console
from planner.units import GIB

if TYPE_CHECKING:
    from planner.accuracy.report import Accuracy, Bounds, Figures, Worst

EPILOG = """\
Predicts every measured run that comes with trainfit, and holds each kind of figure against what was measured. Errors
are predicted over measured, less one; for time, of the speed. Every figure has its number of rows beside it. `--mine`
adds the runs stored here (trainfit measurements): verified ones count as the others do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to look at, and how to print it."""
    parser.add_argument("--mine", action="store_true", help="with the measured runs that are stored here")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Predict everything and print the report."""
    from planner.accuracy.prediction import predictions, predictions_of
    from planner.accuracy.report import report_on

    found = predictions()
    if arguments.mine:
        from app.measurements import Measurements
        from app.settings import Settings

        mine = Measurements(Settings().data_dir).all()
        found += predictions_of(document for document in mine if document.status != "rejected")
    report = report_on(found)
    if arguments.json:
        console.write(report.model_dump_json(indent=2))
    else:
        show(report, console)
    return 0


def show(report: Accuracy, console: Console) -> None:
    """The report as text."""
    for line in _lines(report):
        console.write(line)


def _lines(report: Accuracy) -> Iterator[str]:
    yield (
        f"{report.documents} measured runs: {report.faithful} complete and as their request says, {report.partial} "
        f"partial, {sum(report.departing.values())} that depart from what a request can say, "
        f"{sum(report.not_modelled.values())} not modelled; {sum(report.left_out.values())} published rows left out"
    )
    yield from _section("all", report.overall)
    yield from _section("runs that depart, estimated as if they did not", report.departed)
    for dimension in dict.fromkeys(row.dimension for row in report.groups):
        yield from _section(f"by {dimension}", [row for row in report.groups if row.dimension == dimension])
    yield "\nworst rows"
    yield from (_worst(row) for row in report.worst)
    yield from _verdicts(report)
    yield from _intervals(report)


HEAD = f"{'':32} {'what':16} {'rows':>4} {'of':>3} {'median':>7} {'95 %':>7} {'bias':>7} {'by source':>9} {'inside':>7}"


def _section(title: str, rows: Sequence[Figures]) -> Iterator[str]:
    yield f"\n{title}"
    yield HEAD
    yield from (
        f"{row.value[:32]:32} {row.quantity:16} {row.rows:>4} {row.sources:>3} {row.median_error:>7.1%} "
        f"{row.high_error:>7.1%} {row.bias:>+7.1%} {row.mean_over_sources:>9.1%} {row.covered / row.rows:>7.0%}"
        for row in rows
    )


def _worst(row: Worst) -> str:
    if row.quantity.startswith("step_time"):
        figures = f"{row.measured:,.0f} tokens/s, predicted {row.predicted:,.0f}"
    else:
        figures = f"{row.measured / GIB:.2f} GiB, predicted {row.predicted / GIB:.2f}"
    return f"  {row.error:>+7.1%} {row.quantity:16} {row.id}: {figures}; {row.explanation}"


def _verdicts(report: Accuracy) -> Iterator[str]:
    said = report.verdicts
    yield f"\nverdicts on {said.ran} runs that ran and {said.ran_out} that ran out of memory, all settings known"
    yield f"  said it fits, and it ran: {said.said_it_fits_and_it_ran}"
    yield f"  said no, and it ran out: {said.said_no_and_it_ran_out}"
    yield f"  said it fits, but it ran out: {_counted(said.said_it_fits_but_it_ran_out)}"
    yield f"  said no, but it ran: {_counted(said.said_no_but_it_ran)}"
    yield f"  said tight: {len(said.tight)}"
    yield from _bounds(report.bounds)


def _bounds(bounds: Bounds) -> Iterator[str]:
    yield f"\npartial rows, between the least and the largest prediction over what is unknown: {bounds.rows}"
    yield (
        f"  {bounds.between} of {bounds.tested} peaks whose plan is modelled lie between, "
        f"{bounds.in_the_interval} with the interval around both ends"
    )
    yield from (
        f"  outside: {row.id}: {row.measured / GIB:.2f} GiB {row.quantity}, predicted {row.least / GIB:.2f} to "
        f"{row.largest / GIB:.2f}; {row.explanation}"
        for row in bounds.broken
    )


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names)})" if names else "0"


def _intervals(report: Accuracy) -> Iterator[str]:
    yield "\nintervals, in thousandths of the estimate"
    for row in report.intervals:
        yield (
            f"  {row['quantity']:10} {row['device_class']:12} {row['low']:>5} to {row['high']:>5}  {row['basis']}, "
            f"{row['rows']} rows of {row['publishers']} sources"
        )
    yield "\nrows left out of the fit, against the interval of the others"
    for held in report.held_out:
        yield (
            f"  {held.quantity:10} {held.device_class:12} by {held.left_out:10} {held.coverage:>6.0%} inside, "
            f"median error {held.median_error:.1%} ({held.rows} rows, {held.folds} groups)"
        )
    yield (
        f"  speed of GPUs with one row of the same device and source as calibration: median error "
        f"{report.one_row_error:.1%} ({report.one_row_count} rows)"
    )
