"""Several plans side by side, which the page, the CSV and the Markdown all show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from app.reports.document import LETTERS, PlanSummary
from app.reports.rows import Group, groups_of, run_rows
from app.web import charts
from app.web.numbers import rate
from app.web.result import VERDICTS
from planner.contract import Answer

METHOD_LABELS: Final[Mapping[str, str]] = {
    "lora": "LoRA",
    "qlora": "QLoRA",
    "dora": "DoRA",
    "freeze": "Last layers",
    "full": "Full",
}


@dataclass(frozen=True, slots=True)
class Compared:
    """One plan of a comparison: what it is called, and its answer."""

    letter: str
    name: str
    model: str
    device: str
    answer: Answer

    @property
    def word(self) -> str:
        return VERDICTS[self.answer.verdict][0]

    @property
    def tone(self) -> str:
        return VERDICTS[self.answer.verdict][1]

    @property
    def method(self) -> str:
        return method_of(self.answer)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Plans, the rows about them, and their memory drawn on one scale."""

    plans: Sequence[Compared]
    baseline: int
    groups: Sequence[Group]
    bars: Sequence[charts.Bar | None]

    @property
    def headline(self) -> str:
        """The comparison in a few sentences."""
        able = [plan for plan in self.plans if plan.answer.verdict in ("fits", "tight")]
        if not able:
            return f"None of the {len(self.plans)} plans can run as it stands."
        return " ".join([*_fitting(able, len(self.plans)), *_fastest(able), *_cheapest(able)])

    def has_term(self, key: str) -> bool:
        """Whether a term is in any of the bars."""
        return any(segment.key == key for bar in self.bars if bar for segment in bar.segments)

    @property
    def has_evidence(self) -> bool:
        """Whether a plan was verified or measured."""
        return any(plan.answer.evidence.tier != "estimate" for plan in self.plans)

    def only_differences(self) -> Sequence[Group]:
        """The groups with the rows in which the plans differ."""
        kept = [Group(group.label, [row for row in group.rows if row.differs]) for group in self.groups]
        return [group for group in kept if group.rows]


def _fitting(able: Sequence[Compared], count: int) -> Iterator[str]:
    fitting = [plan.letter for plan in able if plan.answer.verdict == "fits"]
    tight = [plan.letter for plan in able if plan.answer.verdict == "tight"]
    yield f"{len(fitting)} of {count} fit: {_listed(fitting)}." if fitting else f"None of the {count} fits for certain."
    if tight:
        yield f"{_listed(tight)} {'is' if len(tight) == 1 else 'are'} tight."


def _fastest(able: Sequence[Compared]) -> Iterator[str]:
    rates = {plan.letter: plan.answer.throughput.tokens_per_second for plan in able if plan.answer.throughput}
    if len(set(rates.values())) > 1:
        fastest = max(rates, key=lambda letter: rates[letter])
        yield f"{fastest} is the fastest at {rate(rates[fastest])} tokens/s."


def _cheapest(able: Sequence[Compared]) -> Iterator[str]:
    costs = {plan.letter: plan.answer.costs.cost_usd for plan in able if plan.answer.costs}
    priced = {letter: cost for letter, cost in costs.items() if cost is not None}
    if len(set(priced.values())) > 1:
        cheapest = min(priced, key=lambda letter: priced[letter])
        least = f"the least to rent, ${priced[cheapest]:,.2f}" if priced[cheapest] else "nothing to rent"
        yield f"{cheapest} costs {least}."


def _listed(letters: Sequence[str]) -> str:
    *first, last = letters
    return f"{', '.join(first)} and {last}" if first else last


def compare(plans: Sequence[tuple[PlanSummary, Answer]], baseline: int) -> Comparison:
    """The comparison of plans with one of them."""
    compared = [
        Compared(letter, name, summary.model, summary.device, answer)
        for letter, name, (summary, answer) in zip(LETTERS, names(plans), plans, strict=False)
    ]
    answers = [answer for _, answer in plans]
    memories = [answer.memory for answer in answers]
    widest_bytes = max((charts.widest_bytes(memory) for memory in memories if memory), default=1)
    return Comparison(
        compared,
        baseline,
        groups_of(answers, baseline),
        [charts.memory_bar(memory, widest_bytes) if memory else None for memory in memories],
    )


def summary_of(answer: Answer, model: str, device: str) -> PlanSummary:
    """A plan as a list shows it."""
    return PlanSummary(
        model=model, device=device, method=method_of(answer), verdict=answer.verdict, tier=answer.evidence.tier
    )


def method_of(answer: Answer) -> str:
    """The method of a plan, the framework's own where nobody named one."""
    return str(answer.request.run.method or answer.assumed.get("run.method") or "lora")


# --- what the plans are called ---------------------------------------------------------------------------------------


def names(plans: Sequence[tuple[PlanSummary, Answer]]) -> list[str]:
    """Each plan by what sets it apart: model, device and method where they differ, else the knobs that do."""
    parts = [(item.model, item.device, METHOD_LABELS.get(item.method, item.method)) for item, _ in plans]
    telling = [position for position in range(3) if len({part[position] for part in parts}) > 1]
    called = [", ".join(part[position] for position in telling) for part in parts]
    if len(set(called)) == len(called):
        return called
    knobs_apart = _knobs_apart([answer for _, answer in plans])
    fallback = [part[1] for part in parts]
    return [
        ", ".join(filter(None, (name, apart))) or other
        for name, apart, other in zip(called, knobs_apart, fallback, strict=True)
    ]


def _knobs_apart(answers: Sequence[Answer]) -> list[str]:
    """The first two knobs that somebody set and in which the runs differ, as words for each plan."""
    rows = [row for row in run_rows(answers, 0) if row.differs and row.key not in ("run.method", "run.device_count")]
    rows = [row for row in rows if any(cell.value is not None and not cell.note for cell in row.cells)][:2]
    return [", ".join(f"{row.label.lower()} {row.cells[index].text}" for row in rows) for index in range(len(answers))]
