"""What the comparisons say, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from benchmarks.pairwise.compare import Compared


def percentile(values: Sequence[float], share: float) -> float:
    """The value at that share of the sorted values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def summary(found: Sequence[Compared]) -> list[str]:
    """Median, 95th percentile and worst difference, of the peak and of each term."""
    rows = [row_of("peak, without weights and states", [one.off_in_flight for one in found])]
    terms = sorted({term for one in found for term in one.traced} - {"peak"})
    rows += [row_of(term, [one.off(term) for one in found]) for term in terms]
    head = ["| of the traced peak | median | 95th percentile | worst |", "|---|--:|--:|--:|"]
    return [*head, row_of("peak", [one.off("peak") for one in found]), *rows]


def row_of(name: str, shares: Sequence[float]) -> str:
    """A row of the table; the worst keeps its sign."""
    sizes = [abs(share) for share in shares]
    worst = max(shares, key=abs)
    return f"| {name} | {median(sizes):.2%} | {percentile(sizes, 0.95):.2%} | {worst:+.2%} |"


def by_knob(found: Sequence[Compared], names: Sequence[str]) -> list[str]:
    """The peak's difference for each value of the knobs."""
    lines = ["| knob | value | cases | median | 95th percentile | worst |", "|---|---|--:|--:|--:|--:|"]
    for name in names:
        for value in sorted({one.case[name] for one in found}, key=str):
            shares = [one.off("peak") for one in found if one.case[name] == value]
            lines.append(f"| {name} {row_of(f'| {value} | {len(shares)}', shares)}")
    return lines


def worst_rows(found: Sequence[Compared], count: int) -> list[str]:
    """The cases that are furthest off, with the term that is."""
    ordered = sorted(found, key=lambda one: -abs(one.off("peak")))[:count]
    lines = ["| off | without states | term | off | case |", "|--:|--:|---|--:|---|"]
    for one in ordered:
        term = max((term for term in one.traced if term != "peak"), key=lambda term: abs(one.off(term)))
        said = ", ".join(str(value) for value in one.case.values())
        lines.append(f"| {one.off('peak'):+.2%} | {one.off_in_flight:+.2%} | {term} | {one.off(term):+.2%} | {said} |")
    return lines


def refusals(refused: Sequence[Compared]) -> list[str]:
    """How often the library said what, and of which families."""
    counts = Counter(one.refused for one in refused)
    families = {reason: sorted({one.case["family"] for one in refused if one.refused == reason}) for reason in counts}
    return [f"{count:>4} {reason} ({', '.join(families[reason])})" for reason, count in counts.most_common()]
