"""On which rented machines a run works, and what it costs there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from planner.advice import merge_patch
from planner.architecture.spec import ModelSpec
from planner.catalog.offers import Offer, planned_offers
from planner.contract import Costs, EstimateRequest, Verdict
from planner.costs import HOUR, costs_of
from planner.errors import NotModelledError, PlanError
from planner.evaluation import Evaluation, prepare, weigh
from planner.hardware import Machine, MachineError, Rent, resolve_machine
from planner.memory.ledger import build
from planner.step.blocks import NotModelled
from planner.support import support_for, unsupported_reason

MILLION: Final = 1e6
_OTHER_MACHINE: Final = dict.fromkeys(
    ("device", "device_count", "device_memory_gib", "host_memory_gib", "disk_free_gib", "price_usd_per_hour", "spot")
)
"""What describes the machine at hand says nothing of a rented one."""


@dataclass(frozen=True, slots=True)
class Rental:
    """An offer that runs the plan. `request` is the plan on it; `spot` where only a spot price is published."""

    offer: Offer
    request: EstimateRequest
    verdict: Verdict
    spot: bool
    usd_per_hour: float
    tokens_per_second: float
    usd_per_million_tokens: float
    costs: Costs | None


def rentals(request: EstimateRequest, spec: ModelSpec, *, limit: int, free_limit: int) -> list[Rental]:
    """The offers on which the plan fits or is tight, free ones first, then the cheapest for a token; what fits before.

    Offers of one machine are weighed once. On several devices the plan runs as it says: data parallel, ZeRO as given.
    """
    document = request.model_dump(mode="json", exclude_unset=True)
    weighed: dict[tuple[Any, ...], Evaluation | None] = {}
    found: list[tuple[float, Offer, Evaluation]] = []
    for offer in planned_offers():
        shape = (offer.device_id, offer.device_count, offer.host_memory_gib)
        if shape not in weighed:
            weighed[shape] = _weighed(_rented(document, offer), spec)
        evaluation, price = weighed[shape], offer.price(spot=offer.usd_per_hour is None)
        if evaluation is not None and evaluation.time is not None and price is not None:
            found.append((price / evaluation.time.tokens_per_second, offer, evaluation))
    found.sort(key=lambda entry: (entry[2].verdict != "fits", entry[0], entry[1].id))
    free = [entry for entry in found if entry[1].free][:free_limit]
    paid = [entry for entry in found if not entry[1].free][:limit]
    return [_rental(offer, _rented(document, offer), evaluation) for _, offer, evaluation in (*free, *paid)]


def _rented(document: dict[str, Any], offer: Offer) -> EstimateRequest:
    spot = {"spot": True} if offer.usd_per_hour is None else {}
    patch = {"machine": _OTHER_MACHINE | {"offer": offer.id} | spot, "run": {"parallelism": {"data": None}}}
    return EstimateRequest.model_validate(merge_patch(document, patch))


def _weighed(request: EstimateRequest, spec: ModelSpec) -> Evaluation | None:
    """What becomes of the plan there, None where it doesn't run. What no software runs is not weighed."""
    try:
        machine = resolve_machine(request.machine)
        plan = prepare(request, spec, machine)
        if unsupported_reason(support_for(machine.device, plan.needs)) is not None:
            return None
        evaluation = weigh(plan, build(plan))
    except (PlanError, NotModelledError, MachineError, NotModelled):
        return None
    return evaluation if evaluation.verdict in ("fits", "tight") else None


def _rental(offer: Offer, asked: EstimateRequest, evaluation: Evaluation) -> Rental:
    spot = asked.machine.spot
    price, time = offer.price(spot=spot), evaluation.time
    assert price is not None
    assert time is not None
    machine: Machine = replace(evaluation.plan.machine, rent=Rent(price, "spot" if spot else "offer", offer))
    return Rental(
        offer=offer,
        request=asked,
        verdict=evaluation.verdict,
        spot=spot,
        usd_per_hour=price,
        tokens_per_second=time.tokens_per_second,
        usd_per_million_tokens=price / HOUR / time.tokens_per_second * MILLION,
        costs=costs_of(asked, replace(evaluation.plan, machine=machine), time),
    )
