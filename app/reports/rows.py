"""The rows of a comparison: what is said of every plan, and how each differs from the baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from app.knobs import knobs
from app.machines import count_of
from app.reports.document import LETTERS
from app.web import charts
from app.web.numbers import gib, percent, plain, rate, words
from app.web.result import VERDICTS, leaves
from planner.contract import Answer, Costs, Memory, Terms, Throughput
from planner.units import format_count, format_seconds

Unit = Literal["bytes", "seconds", "tokens per second", "share", "kWh", "USD", "parameters", "text"]
Better = Literal["less", "more"]
Value = float | str | None


@dataclass(frozen=True, slots=True)
class Cell:
    """One plan's value in a row. `note` says where the value comes from, if not from the request."""

    value: Value
    text: str
    is_best: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """How one plan differs from the baseline in a row."""

    letter: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """One attribute of every plan."""

    key: str
    label: str
    unit: Unit
    cells: Sequence[Cell]
    differences: Sequence[Difference]

    @property
    def differs(self) -> bool:
        """Whether the plans differ here by something that is seen."""
        return len({cell.text for cell in self.cells}) > 1


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that belong together."""

    label: str
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class _Measure:
    """A number or a word of every answer, and which direction is better."""

    key: str
    label: str
    unit: Unit
    of: Callable[[Answer], Value]
    better: Better | None = None


def groups_of(answers: Sequence[Answer], baseline: int) -> list[Group]:
    """Every row that at least one answer has something for."""
    measured = [Group(label, _measured(measures, answers, baseline)) for label, measures in _MEASURES]
    return [group for group in (*measured, Group("The run", run_rows(answers, baseline))) if group.rows]


# --- rows of the answer -----------------------------------------------------------------------------------------------


def _measured(measures: Sequence[_Measure], answers: Sequence[Answer], baseline: int) -> list[Row]:
    """The measures that at least one answer has."""
    rows = [_row(measure, answers, baseline) for measure in measures]
    return [row for row in rows if any(_says_something(cell.value, row.unit) for cell in row.cells)]


def _says_something(value: Value, unit: Unit) -> bool:
    """Whether a value is worth a row: no money is."""
    return value not in (None, "") and (value != 0 or unit == "USD")


def _row(measure: _Measure, answers: Sequence[Answer], baseline: int) -> Row:
    values = [measure.of(answer) for answer in answers]
    texts = [text_of(value, measure.unit) for value in values]
    best = _best(values, texts, answers, measure.better)
    cells = [Cell(value, text, text == best) for value, text in zip(values, texts, strict=True)]
    return Row(measure.key, measure.label, measure.unit, cells, _differences(cells, measure.unit, baseline))


def _best(
    values: Sequence[Value], texts: Sequence[str], answers: Sequence[Answer], better: Better | None
) -> str | None:
    """The best value among plans that can run, as it is shown; none where fewer than two can, or all show the same."""
    able = [
        (value, text)
        for value, text, answer in zip(values, texts, answers, strict=True)
        if answer.verdict in ("fits", "tight") and isinstance(value, float | int)
    ]
    if better is None or len({text for _, text in able}) < 2:
        return None
    return (min(able) if better == "less" else max(able))[1]


def _differences(cells: Sequence[Cell], unit: Unit, baseline: int) -> list[Difference]:
    """Each other plan that differs visibly from the baseline, and by how much."""
    base = cells[baseline]
    return [
        _difference(LETTERS[index], cell, base, unit)
        for index, cell in enumerate(cells)
        if index != baseline and cell.text != base.text
    ]


def _difference(letter: str, cell: Cell, base: Cell, unit: Unit) -> Difference:
    if isinstance(cell.value, str) or isinstance(base.value, str) or cell.value is None or base.value is None:
        return Difference(letter, cell.text)
    by = cell.value - base.value
    compares = unit in _BY_FACTOR and base.value > 0 and cell.value > 0
    factor = f" ({_factor(cell.value / base.value)})" if compares else ""
    return Difference(letter, f"{'+' if by > 0 else '−'}{_amount(abs(by), unit)}{factor}")


def _amount(by: float, unit: Unit) -> str:
    """How far apart two values are: of two shares in points, since a percentage would be of the share itself."""
    return f"{by * 100:.1f} points" if unit == "share" else text_of(by, unit)


_BY_FACTOR: Final = ("seconds", "tokens per second", "USD", "kWh")


def _factor(ratio: float) -> str:
    if 0 < ratio < 0.1:
        return f"{1 / ratio:,.0f} × less"
    return f"{ratio:,.0f} ×" if ratio >= 100 else f"{ratio:.2g} ×"


def text_of(value: Value, unit: Unit) -> str:
    """A value as a person reads it."""
    if value is None:
        return "—"
    return value if isinstance(value, str) else _FORMATS[unit](value)


_FORMATS: Final[Mapping[Unit, Callable[[float], str]]] = {
    "bytes": gib,
    "seconds": format_seconds,
    "tokens per second": rate,
    "share": percent,
    "kWh": lambda value: f"{value:,.2f} kWh",
    "USD": lambda value: "free" if value == 0 else f"${value:,.2f}",
    "parameters": lambda value: format_count(round(value)),
    "text": str,
}


def _memory(of: Callable[[Memory], Value]) -> Callable[[Answer], Value]:
    return lambda answer: of(answer.memory) if answer.memory else None


def _time(of: Callable[[Throughput], Value]) -> Callable[[Answer], Value]:
    return lambda answer: of(answer.throughput) if answer.throughput else None


def _costs(of: Callable[[Costs], Value]) -> Callable[[Answer], Value]:
    return lambda answer: of(answer.costs) if answer.costs else None


def _term(name: str) -> Callable[[Answer], Value]:
    return _memory(lambda memory: getattr(memory.device.terms, name))


def _way_to_yes(answer: Answer) -> Value:
    """The first lever that makes it fit."""
    if answer.verdict == "fits":
        return None
    lever = next((item for item in answer.advice if item.makes_it_fit), None)
    return (lever.title or plain(lever.change)) if lever else None


def _found(name: str) -> Callable[[Answer], Value]:
    """A figure that a job has measured."""
    return lambda answer: answer.evidence.measured.get(name)


_MEASURES: Final[Sequence[tuple[str, Sequence[_Measure]]]] = (
    (
        "The answer",
        (
            _Measure("verdict", "Verdict", "text", lambda answer: VERDICTS[answer.verdict][0]),
            _Measure("tier", "Evidence", "text", lambda answer: answer.evidence.tier),
            _Measure("headroom", "To spare", "bytes", _memory(lambda memory: memory.device.headroom_bytes), "more"),
            _Measure("required", "Needed", "bytes", _memory(lambda memory: memory.device.required_bytes), "less"),
            _Measure("low", "Needed, low end", "bytes", _memory(lambda memory: memory.device.interval_bytes[0])),
            _Measure("high", "Needed, high end", "bytes", _memory(lambda memory: memory.device.interval_bytes[1])),
            _Measure("usable", "Usable on each device", "bytes", _memory(lambda memory: memory.device.usable_bytes)),
            _Measure("host", "Host memory", "bytes", _memory(lambda memory: memory.host.peak_bytes), "less"),
            _Measure("disk", "Disk", "bytes", _memory(lambda memory: memory.disk.needed_bytes), "less"),
            _Measure("way", "What makes it fit", "text", _way_to_yes),
        ),
    ),
    (
        "Time and money",
        (
            _Measure("finish", "To finish", "seconds", _time(lambda time: time.seconds_to_finish), "less"),
            _Measure("cost", "Rent to finish", "USD", _costs(lambda costs: costs.cost_usd), "less"),
            _Measure(
                "cost_low",
                "Rent, low end",
                "USD",
                _costs(lambda c: c.cost_interval_usd and c.cost_interval_usd[0]),
            ),
            _Measure(
                "cost_high",
                "Rent, high end",
                "USD",
                _costs(lambda c: c.cost_interval_usd and c.cost_interval_usd[1]),
            ),
            _Measure("price", "Rent of an hour", "USD", _costs(lambda costs: costs.usd_per_hour)),
            _Measure("price_as_of", "Rent as of", "text", _costs(lambda costs: costs.price_as_of)),
            _Measure(
                "sessions",
                "The offer's limits",
                "text",
                _costs(lambda c: c.sessions.message if c.sessions else None),
            ),
            _Measure("energy", "Energy", "kWh", _costs(lambda costs: costs.energy_kwh), "less"),
            _Measure("rate", "Tokens per second", "tokens per second", _time(lambda t: t.tokens_per_second), "more"),
            _Measure("step", "One step", "seconds", _time(lambda time: time.step_seconds), "less"),
            _Measure("step_low", "One step, low end", "seconds", _time(lambda time: time.interval[0])),
            _Measure("step_high", "One step, high end", "seconds", _time(lambda time: time.interval[1])),
            _Measure("mfu", "Share of the device's peak speed (MFU)", "share", _time(lambda time: time.mfu)),
            _Measure("basis", "Times rest on", "text", _time(lambda time: time.basis)),
        ),
    ),
    (
        "Measured by a job",
        (
            _Measure("measured_step", "One step", "seconds", _found("step_seconds"), "less"),
            _Measure("measured_rate", "Tokens per second", "tokens per second", _found("tokens_per_second"), "more"),
            _Measure("measured_allocated", "Peak of live tensors", "bytes", _found("peak_allocated_bytes"), "less"),
            _Measure("measured_reserved", "Peak reserved", "bytes", _found("peak_reserved_bytes"), "less"),
            _Measure("measured_resident", "Resident memory", "bytes", _found("resident_peak_bytes"), "less"),
        ),
    ),
    (
        "Memory at the step's peak",
        (
            _Measure("moment", "Moment of the peak", "text", _memory(lambda memory: words(memory.device.peak_moment))),
            *(_Measure(name, charts.TERM_LABELS[name], "bytes", _term(name)) for name in Terms.model_fields),
        ),
    ),
    (
        "The model",
        (
            _Measure("total", "Parameters", "parameters", lambda a: a.parameters.total if a.parameters else None),
            _Measure("trained", "Trained", "parameters", lambda a: a.parameters.trainable if a.parameters else None),
        ),
    ),
)


# --- rows of the run --------------------------------------------------------------------------------------------------

_ALWAYS: Final = frozenset(
    {"method", "sequence_length", "micro_batch_size", "gradient_accumulation_steps", "optimizer", "device_count"}
)


def run_rows(answers: Sequence[Answer], baseline: int) -> list[Row]:
    """The knobs that are always worth a row, and those that differ; what nobody said is marked as assumed."""
    runs = [_run_values(answer) for answer in answers]
    return [
        row
        for knob in knobs()
        if not knob.name.startswith("device.")
        and knob.name not in ("device", "offer")
        and (row := _knob_row(knob.name, knob.label, runs, baseline)) is not None
    ]


def _knob_row(name: str, label: str, runs: Sequence[Mapping[str, tuple[Any, bool]]], baseline: int) -> Row | None:
    taken = [run.get(name) for run in runs]
    cells = [
        Cell(None, "—") if item is None else Cell(plain(item[0]), plain(item[0]), note="assumed" if item[1] else "")
        for item in taken
    ]
    if name not in _ALWAYS and len({cell.value for cell in cells}) == 1:
        return None
    return Row(f"run.{name}", label, "text", cells, _differences(cells, "text", baseline))


def _run_values(answer: Answer) -> dict[str, tuple[Any, bool]]:
    """knob -> its value, and whether it was assumed. An offer says how many devices there are."""
    given = dict(leaves(answer.request.model_dump(mode="json", include={"machine", "run"})))
    given["machine.device_count"] = count_of(answer.request.machine)
    assumed = dict(leaves(answer.assumed))
    values: dict[str, tuple[Any, bool]] = {}
    for knob in knobs():
        place = ".".join(knob.path)
        if place in assumed:
            values[knob.name] = (assumed[place], True)
        elif given.get(place) is not None:
            values[knob.name] = (given[place], False)
    return values
