"""The order of the ways of training, by how near they come to training every weight.

Papers support the order of kinds and, within adapters, of ranks; none supports a distance, so there is none: LoRA below
full fine-tuning and better with rank (arXiv 2405.09673), DoRA at least LoRA of its rank (arXiv 2402.09353), QLoRA near
16-bit LoRA on a quantised base (arXiv 2305.14314), training the last layers last, because what it reaches depends most
on the task (arXiv 2210.11466).
"""

from __future__ import annotations

from typing import Final

from planner.plan import Plan
from planner.search.contract import Quality
from planner.step.sizes import Quantity

_KIND: Final = 10**6
_SOURCES: Final = {
    "full": "arXiv 2405.09673: full fine-tuning learns more than LoRA",
    "dora": "arXiv 2402.09353: DoRA is at least LoRA of the same rank",
    "lora": "arXiv 2405.09673: below full fine-tuning, nearer with a higher rank",
    "int8": "arXiv 2208.07339: int8 keeps a model's quality; adapters on it by rank",
    "nf4": "arXiv 2305.14314: QLoRA comes near 16-bit LoRA; adapters on it by rank",
    "freeze": "arXiv 2210.11466: which layers suffice depends on the task",
}


def quality_order(plan: Plan, rank: Quantity) -> Quantity:
    """A number that is higher for what comes nearer to training every weight; only its order means anything."""
    rules = plan.rules
    if rules.method == "full":
        return 4 * _KIND
    if not rules.has_adapters:
        return 0
    kind = 3 if rules.scheme is None else 2 if rules.scheme == "int8" else 1
    return kind * _KIND + 2 * rank + (rules.method == "dora")


def quality_of(plan: Plan) -> Quality:
    """The class of one plan, by name and source."""
    rules = plan.rules
    key = rules.scheme or rules.method
    kind = {
        "full": "full",
        "freeze": "last layers",
        "dora": "DoRA",
        "lora": "LoRA",
        "int8": "QLoRA int8",
        "nf4": "QLoRA",
    }
    name = f"{kind[key]}, rank {plan.rank}" if rules.has_adapters else kind[key]
    order: int = quality_order(plan, plan.rank)
    return Quality(name=name, order=order, source=_SOURCES[key])
