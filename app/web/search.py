"""The page of the search: tick what is free, say what must hold, see what is best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from app import machines
from app.pace import keep_pace
from app.problems import Problem
from app.reports.document import MAXIMUM_PLANS, MINIMUM_PLANS
from app.searches import QUESTIONS, answer_search, constraint, parse_search, parsed, path_of, titled
from app.web import address, pages
from app.web.charts import WIDTH, ticks
from planner.catalog.models import all_models
from planner.search import Constraints, SearchAnswer, SearchPlan

router = APIRouter(include_in_schema=False)

FREE, LIMIT = "free.", "limit."
SHOWN: Final = 40
FAR_APART: Final = 20
TICKED: Final[Mapping[str, tuple[str, Sequence[tuple[str, str]]]]] = {
    "method": (
        "Method",
        (
            ("lora", "LoRA"),
            ("qlora", "QLoRA"),
            ("dora", "DoRA"),
            ("freeze", "Last layers"),
            ("full", "Full"),
        ),
    ),
    "activation_checkpointing": (
        "Checkpointing",
        (("none", "none"), ("full", "full"), ("selective_op", "by operation"), ("selective_attention", "attention")),
    ),
    "loss": ("Loss", (("full_logits", "full logits"), ("chunked", "chunked"), ("fused_linear", "fused linear"))),
    "optimizer": (
        "Optimizer",
        (
            ("adamw", "AdamW"),
            ("adamw_8bit", "8-bit AdamW"),
            ("paged_adamw_8bit", "paged 8-bit AdamW"),
            ("adafactor", "Adafactor"),
            ("lion", "Lion"),
            ("muon", "Muon"),
            ("sgd", "SGD"),
        ),
    ),
}
"""field -> what it is called, and the values to tick"""
TYPED: Final[Mapping[str, tuple[str, str]]] = {
    "micro_batch_size": ("Micro-batches", "1,2,4,8,16"),
    "sequence_length": ("Sequence lengths", "512,1024,2048,4096,8192"),
    "lora.rank": ("LoRA ranks", "16"),
}
"""field -> what it is called, and what is searched when nothing was said"""
TYPICAL: Final[Mapping[str, Sequence[str]]] = {
    "method": ("lora", "qlora", "dora", "full"),
    "activation_checkpointing": ("none", "full"),
    **{name: (values,) for name, (_, values) in TYPED.items()},
}
LIMITS: Final[Mapping[str, tuple[str, str]]] = {
    "hours": ("At most, hours to finish", "needs tokens"),
    "budget_usd": ("At most, $ to finish", "needs tokens and a price"),
    "minimum_sequence_length": ("Sequence length, at least", ""),
    "minimum_rank": ("Rank, at least", "where there are adapters"),
    "minimum_tokens_per_second": ("Tokens per second, at least", ""),
    "vendor": ("Vendor", "nvidia, amd, intel, apple, ..."),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A plan of the answer as a row: its address and its free values."""

    plan: SearchPlan
    href: str
    title: str
    words: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A plan of the frontier in the chart."""

    x: float
    y: float
    kind: str
    href: str
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Memory across from zero, tokens per second up, in powers of ten where they are far apart (`logarithmic`).

    `usable_x` stands where all plans have one machine.
    """

    dots: Sequence[Dot]
    kinds: Sequence[tuple[str, str]]
    usable_x: float | None
    ticks: Sequence[tuple[float, str]]
    slowest: float
    fastest: float
    logarithmic: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address says: the base's pairs, the free values as typed, the limits as typed."""

    base: Sequence[tuple[str, str]]
    free: Mapping[str, Sequence[str]]
    limits: Mapping[str, str]

    def ticked(self, name: str, value: str) -> bool:
        return value in self.free.get(name, ())

    def typed(self, name: str) -> str:
        return ",".join(self.free.get(name, ()))

    def base_value(self, name: str) -> str:
        return dict(self.base).get(name, "")


@router.get("/search")
def search_page(request: Request) -> HTMLResponse:
    """The form and, once a model is given, what was found."""
    asked = asked_of(request.query_params.multi_items())
    problem, answer, hash_ = None, None, None
    if asked.base_value("model") or asked.base_value("config"):
        try:
            keep_pace(request, "searches")
            answer, hash_ = _answered(request, asked)
        except Problem as found:
            problem = found
    return pages.site_page(
        request,
        "search.html",
        200 if problem is None else problem.status,
        asked=asked,
        problem=problem,
        answer=answer,
        typed=TYPED,
        ticked=TICKED,
        limits=LIMITS,
        models=all_models(),
        device_groups=machines.groups(),
        machine_label=pages.site_of(request).machine_label,
        hidden=[(name, text) for name, text in asked.base if name not in _OWN_INPUTS],
        **({} if answer is None else _shown(answer, hash_)),
    )


_OWN_INPUTS = frozenset({"v", "model", "device", "tokens", "offer"})


def asked_of(pairs: Iterable[tuple[str, str]]) -> Asked:
    """What the pairs of an address say; what is free by default where nothing was said to be."""
    base: list[tuple[str, str]] = []
    free: dict[str, list[str]] = {}
    limits: dict[str, str] = {}
    for name, text in pairs:
        if not text.strip():
            continue
        if name.startswith(FREE):
            free.setdefault(name.removeprefix(FREE), []).append(text)
        elif name.startswith(LIMIT):
            limits[name.removeprefix(LIMIT)] = text
        else:
            base.append((name, text))
    return Asked(base, free or dict(TYPICAL), limits)


def _answered(request: Request, asked: Asked) -> tuple[SearchAnswer, str | None]:
    pairs = [(name, text) for name, text in asked.base if not (name == "device" and "offer" in asked.free)]
    plan, hash_ = pages.plan_at(request, pairs)
    free = {path_of(name): _values(path_of(name), texts) for name, texts in asked.free.items()}
    limits = {name: constraint(name, text) for name, text in asked.limits.items() if name in Constraints.model_fields}
    document = {"base": plan.request, "free": free, "constraints": limits, "limit": SHOWN}
    return answer_search(request.app.state.plans, parse_search(document)), hash_


def _values(path: str, texts: Sequence[str]) -> list[Any]:
    return [parsed(path, part) for text in texts for part in text.split(",") if part.strip()]


def _shown(answer: SearchAnswer, hash_: str | None) -> dict[str, Any]:
    def row(plan: SearchPlan) -> Row:
        kept = hash_ if plan.request.model.config is not None else None
        return Row(plan, f"/plan?{address.query(plan.request, kept)}", *titled(plan))

    frontier = [row(plan) for plan in answer.frontier]
    winners = [(QUESTIONS[name], row(answer.best[name])) for name in QUESTIONS if name in answer.best]
    best = list(dict.fromkeys(winner.href.removeprefix("/plan?") for _, winner in winners))[:MAXIMUM_PLANS]
    return {
        "rows": [row(plan) for plan in answer.plans],
        "frontier": frontier,
        "winners": winners,
        "compare": address.comparison(best) if len(best) >= MINIMUM_PLANS else None,
        "chart": _chart(frontier),
    }


_KINDS: Final = {"full": "full", "DoRA": "dora", "LoRA": "lora", "QLoRA": "qlora", "last": "freeze"}
_KIND_NAMES: Final = {"full": "full", "dora": "DoRA", "lora": "LoRA", "qlora": "QLoRA", "freeze": "last layers"}


def _chart(frontier: Sequence[Row]) -> Chart | None:
    """Where the frontier's plans lie; None where fewer than two have a speed."""
    timed = [row for row in frontier if row.plan.tokens_per_second]
    if len(timed) < 2:
        return None
    usable = {row.plan.usable_bytes for row in timed}
    widest = max([row.plan.required_bytes for row in timed] + (list(usable) if len(usable) == 1 else []))
    rates = [row.plan.tokens_per_second or 0.0 for row in timed]
    slowest, fastest = min(rates), max(rates)
    logarithmic = fastest > FAR_APART * slowest
    dots = [
        Dot(
            row.plan.required_bytes / widest * WIDTH,
            math.log(rate / slowest) / math.log(fastest / slowest) if logarithmic else rate / fastest,
            _KINDS[row.plan.quality.name.replace(",", " ").split()[0]],
            row.href,
            "; ".join(filter(None, (row.title, row.words))),
        )
        for row, rate in zip(timed, rates, strict=True)
    ]
    present = {dot.kind for dot in dots}
    return Chart(
        dots=dots,
        kinds=[(kind, name) for kind, name in _KIND_NAMES.items() if kind in present],
        usable_x=usable.pop() / widest * WIDTH if len(usable) == 1 else None,
        ticks=ticks(widest, WIDTH / widest),
        slowest=slowest,
        fastest=fastest,
        logarithmic=logarithmic,
    )
