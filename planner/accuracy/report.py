"""The whole of how far off we are: one document for the command line, the page and CI."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from planner.accuracy.bounds import bounds_of
from planner.accuracy.held_out import held_out, with_one_row
from planner.accuracy.prediction import Prediction
from planner.accuracy.residuals import Residual, faithful, grouped, interval_rows, quantile, residuals_of
from planner.corpus import left_out
from planner.interval import SCALE, STEP_TIME, factors_of
from planner.version import CATALOG_VERSION, ESTIMATOR_VERSION

SHOWN_WORST: Final = 5
WORTH_A_WORD: Final = 0.01
"""A row that is closer than this is not shown among the worst."""
DIMENSIONS: Final[dict[str, Callable[[Residual], str]]] = {
    "source": lambda one: one.prediction.run.publisher,
    "method": lambda one: one.prediction.method,
    "framework": lambda one: one.prediction.framework,
    "family": lambda one: one.prediction.model_type,
    "vendor": lambda one: one.prediction.device_class,
}


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


class Figures(_Document):
    """Errors of one group of rows: predicted over measured, less one (of time: of speed)."""

    dimension: str
    value: str
    quantity: str
    rows: int
    sources: int
    median_error: float
    high_error: float
    bias: float
    mean_over_sources: float
    covered: int


class Worst(_Document):
    """One row that is far off, and why, as far as that is known."""

    id: str
    source: str
    quantity: str
    measured: float
    predicted: float
    error: float
    explanation: str


class Verdicts(_Document):
    """Verdicts on runs whose machine and settings are all known, wrong ones both ways; each list names the rows."""

    ran: int
    ran_out: int
    said_it_fits_and_it_ran: int
    said_no_and_it_ran_out: int
    said_it_fits_but_it_ran_out: list[str]
    said_no_but_it_ran: list[str]
    tight: list[str]


class HeldOutRow(_Document):
    """Rows that were left out of the fit, against the interval of the others."""

    quantity: str
    device_class: str
    left_out: str
    folds: int
    rows: int
    coverage: float
    median_error: float


class BrokenBound(_Document):
    """A partial row whose measured peak no setting gives."""

    id: str
    source: str
    quantity: str
    measured: int
    least: int
    largest: int
    explanation: str


class Bounds(_Document):
    """Partial rows: the measured peak against the least and the largest prediction over the unknown settings.

    `tested` peaks of `rows` partial rows have a modelled setting; of them `between` lie between both ends,
    `in_the_interval` between the interval's ends around them. `width` is the median of largest over least.
    """

    rows: int
    tested: int
    between: int
    in_the_interval: int
    width: float | None
    broken: list[BrokenBound]


class Accuracy(_Document):
    """Everything that `trainfit evaluate` prints."""

    estimator_version: str = ESTIMATOR_VERSION
    catalog_version: str = CATALOG_VERSION
    documents: int
    faithful: int
    partial: int
    departing: dict[str, int]
    not_modelled: dict[str, int]
    left_out: dict[str, int]
    overall: list[Figures]
    departed: list[Figures]
    groups: list[Figures]
    worst: list[Worst]
    verdicts: Verdicts
    intervals: list[dict[str, Any]]
    held_out: list[HeldOutRow]
    one_row_error: float
    one_row_count: int
    bounds: Bounds


@cache
def published_accuracy() -> Accuracy:
    """The report on every document that comes with trainfit, as `report_on` gave it when predictions last moved.

    It is kept (catalog/accuracy.json, pinned by a test), since working it out takes seconds and the memory of a hundred
    models.
    """
    text = files("planner.catalog").joinpath("accuracy.json").read_text(encoding="utf-8")
    return Accuracy.model_validate_json(text)


def report_on(found: Sequence[Prediction]) -> Accuracy:
    """The report on these predictions."""
    residuals = residuals_of(found)
    kept = faithful(residuals)
    apart = [one for one in residuals if one.prediction.run.departure != "none"]
    pair = with_one_row(kept)
    return Accuracy(
        documents=len(found),
        faithful=sum(one.run.is_faithful for one in found),
        partial=sum(one.run.completeness == "partial" for one in found),
        departing=_counted(one.run.departure for one in found if one.run.departure != "none"),
        not_modelled=_counted(one.reason for one in found if one.verdict == "not_modelled"),
        left_out=_counted(row.reason.partition(":")[0] for row in left_out()),
        overall=_figures("all", "", kept),
        departed=[
            row for name, rows in grouped(apart, _departure).items() for row in _figures("departure", name, rows)
        ],
        groups=[
            row
            for dimension, key in DIMENSIONS.items()
            for value, rows in sorted(grouped(kept, key).items())
            for row in _figures(dimension, value, rows)
        ],
        worst=_worst(kept),
        verdicts=_verdicts(found),
        intervals=interval_rows(found),
        held_out=[
            HeldOutRow(
                quantity=row.quantity, device_class=row.device_class, left_out=row.left_out, folds=row.folds,
                rows=row.count, coverage=_rounded(row.coverage), median_error=_rounded(row.median_error),
            )
            for row in held_out(kept)
        ],
        one_row_error=_rounded(pair.median_error),
        one_row_count=pair.count,
        bounds=_bounds(found),
    )  # fmt: skip


def _rounded(value: float) -> float:
    """To a hundredth of a percent: what is shown, and equal on every machine."""
    return round(value, 4)


def _departure(one: Residual) -> str:
    return one.prediction.run.departure


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _figures(dimension: str, value: str, residuals: Sequence[Residual]) -> list[Figures]:
    """One line for each quantity; memory and speed of processors stand apart, as nothing else is like them."""
    groups = grouped(residuals, _scored_as)
    return [_line(dimension, value, quantity, groups[quantity]) for quantity in sorted(groups)]


def _scored_as(one: Residual) -> str:
    """Each kind of peak by itself, and a processor's apart from a device's."""
    return f"{one.quantity}, cpu" if one.prediction.device_class == "cpu" else one.quantity


def _line(dimension: str, value: str, quantity: str, residuals: Sequence[Residual]) -> Figures:
    sizes = [abs(one.error) for one in residuals]
    by_source = grouped(residuals, DIMENSIONS["source"])
    return Figures(
        dimension=dimension,
        value=value,
        quantity=quantity,
        rows=len(residuals),
        sources=len(by_source),
        median_error=_rounded(statistics.median(sizes)),
        high_error=_rounded(quantile(sizes, 0.95)),
        bias=_rounded(statistics.median(one.error for one in residuals)),
        mean_over_sources=_rounded(
            statistics.fmean(statistics.median(abs(one.error) for one in rows) for rows in by_source.values())
        ),
        covered=sum(is_inside(one) for one in residuals),
    )


def is_inside(one: Residual) -> bool:
    """Whether the measured value lies in the interval around the prediction."""
    factors = factors_of(*one.group)
    return factors.low <= SCALE * one.ratio <= factors.high


def _worst(residuals: Sequence[Residual]) -> list[Worst]:
    """The rows that are furthest off, some for each quantity."""
    groups = grouped(residuals, _scored_as)
    return [
        _worst_row(one)
        for quantity in sorted(groups)
        for one in sorted(groups[quantity], key=lambda one: -abs(one.error))[:SHOWN_WORST]
        if abs(one.error) >= WORTH_A_WORD
    ]


def _worst_row(one: Residual) -> Worst:
    run = one.prediction.run
    of_time = one.quantity == STEP_TIME
    measured = run.tokens_per_second if of_time else run.peak(one.quantity)
    predicted = one.prediction.tokens_per_second if of_time else one.prediction.bytes_of(one.quantity)
    return Worst(
        id=run.id,
        source=run.publisher,
        quantity=_scored_as(one),
        measured=measured or 0,
        predicted=float(f"{predicted or 0:.6g}"),
        error=_rounded(one.error),
        explanation=run.explanation or "unexplained",
    )


def _verdicts(found: Sequence[Prediction]) -> Verdicts:
    known = [one for one in found if one.run.is_faithful and not one.run.stand_ins and one.memory is not None]
    ran = [one for one in known if one.run.outcome == "completed"]
    ran_out = [one for one in known if one.run.outcome == "out_of_memory"]
    return Verdicts(
        ran=len(ran),
        ran_out=len(ran_out),
        said_it_fits_and_it_ran=sum(one.verdict == "fits" for one in ran),
        said_no_and_it_ran_out=sum(one.verdict == "does_not_fit" for one in ran_out),
        said_it_fits_but_it_ran_out=[one.run.id for one in ran_out if one.verdict == "fits"],
        said_no_but_it_ran=[one.run.id for one in ran if one.verdict == "does_not_fit"],
        tight=[one.run.id for one in known if one.verdict == "tight"],
    )


def _bounds(found: Sequence[Prediction]) -> Bounds:
    bounds = bounds_of(found)
    return Bounds(
        rows=sum(one.run.completeness == "partial" for one in found),
        tested=len(bounds),
        between=sum(one.is_between for one in bounds),
        in_the_interval=sum(one.is_in_the_interval for one in bounds),
        width=_rounded(statistics.median(one.largest / one.least for one in bounds)) if bounds else None,
        broken=[
            BrokenBound(
                id=one.run.id, source=one.run.publisher, quantity=one.kind, measured=one.measured, least=one.least,
                largest=one.largest, explanation=one.run.explanation or "unexplained",
            )
            for one in bounds
            if not one.is_between
        ],
    )  # fmt: skip
