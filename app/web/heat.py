"""The map of micro-batch times sequence as the result page shows it: words, classes, links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.web import address
from planner.contract import EstimateRequest
from planner.evaluation import VERDICTS
from planner.heatmap import LARGEST_BATCH, HeatMap
from planner.plan import Plan

WORDS: Final = {
    "fits": ("fits", "yes"),
    "tight": ("tight", "maybe"),
    "unsupported": ("unsupported", "unknown"),
    "does_not_fit": ("no", "no"),
}
"""verdict -> the word of a cell and its tone"""


@dataclass(frozen=True, slots=True)
class Cell:
    """One plan of the map."""

    word: str
    tone: str
    bytes: int
    href: str
    current: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence length; `largest` is the largest micro-batch that fits, 0 for none."""

    sequence: int
    cells: Sequence[Cell]
    largest: int


@dataclass(frozen=True, slots=True)
class Heat:
    """The map and its frontier in words."""

    batches: Sequence[int]
    rows: Sequence[Row]
    words: Sequence[str]


def heat_of(found: HeatMap, plan: Plan, request: EstimateRequest, config_hash: str | None) -> Heat:
    """The map around a plan; each cell is the address of the plan with its sizes."""
    link = address.sized(request, config_hash)
    rows = [
        Row(
            sequence,
            [
                Cell(
                    *WORDS[VERDICTS[found.grades[row, column]]],
                    bytes=int(found.required_bytes[row, column]),
                    href=f"/plan?{link(batch, sequence)}",
                    current=(batch, sequence) == (plan.micro_batch_size, plan.sequence_length),
                )
                for column, batch in enumerate(found.batches)
            ],
            found.largest_batches[row],
        )
        for row, sequence in enumerate(found.sequences)
    ]
    return Heat(found.batches, rows, list(_words(found, plan)))


def _words(found: HeatMap, plan: Plan) -> list[str]:
    own = found.largest_batches[found.sequences.index(plan.sequence_length)]
    more = " or more" if own >= LARGEST_BATCH else ""
    batch = f"The largest micro-batch that fits at {plan.sequence_length:,} tokens is {own:,}{more}."
    if not own:
        batch = f"No micro-batch fits at {plan.sequence_length:,} tokens."
    longest = found.longest_sequence
    end = " (the model's or the map's end)" if longest >= found.sequence_limit else ""
    length = f"The longest sequence that fits at micro-batch {plan.micro_batch_size:,} is {longest:,} tokens{end}."
    if not longest:
        length = f"No sequence length fits at micro-batch {plan.micro_batch_size:,}."
    return [batch, length]
