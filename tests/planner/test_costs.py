"""Money, energy and quotas follow from hours, and say where their price is from."""

from __future__ import annotations

import math
from typing import Any

import pytest

from planner.contract import Answer, Costs, EstimateRequest
from planner.costs import SETUP_HOURS
from planner.hardware import MachineError, resolve_machine
from planner.rental import rentals
from tests.planner.asking import LLAMA_8B, RTX_4090, answer, request
from tests.planner.search.test_search import Catalogue

TOKENS = 10_000_000


def rented(offer: str = "runpod-rtx-4090-secure", *, tokens: int | None = TOKENS, **machine: Any) -> Answer:
    document = {"model": {"id": LLAMA_8B}, "machine": {"offer": offer, **machine}, "run": {"method": "qlora"}}
    if tokens is not None:
        document["run"] = {**document["run"], "tokens": tokens}
    return answer(EstimateRequest.model_validate(document))


def costs(given: Answer) -> Costs:
    assert given.costs is not None
    return given.costs


def hours(given: Answer) -> float:
    assert given.throughput is not None
    return (given.throughput.seconds_to_finish or 0) / 3600


def test_an_offer_says_device_host_and_price() -> None:
    given = rented()
    same = answer(request(LLAMA_8B, RTX_4090, machine={"host_memory_gib": 29}, method="qlora", tokens=TOKENS))
    assert given.memory == same.memory
    assert costs(given).usd_per_hour == 0.69
    assert costs(given).price_as_of == "2026-06-24"
    assert costs(given).cost_usd == pytest.approx(hours(given) * 0.69)
    assert given.throughput is not None
    assert given.throughput.cost_usd == costs(given).cost_usd


def test_energy_is_the_board_power_over_the_time() -> None:
    own = answer(request(LLAMA_8B, RTX_4090, machine={"electricity_usd_per_kwh": 0.3}, method="qlora", tokens=TOKENS))
    assert costs(own).energy_kwh == pytest.approx(hours(own) * 0.45)
    assert costs(own).electricity_usd == pytest.approx(hours(own) * 0.45 * 0.3)
    assert costs(rented(electricity_usd_per_kwh=0.3)).electricity_usd is None  # the rent holds it


def test_the_intervals_follow_the_time() -> None:
    given = rented()
    assert given.throughput is not None
    ratio = given.throughput.interval[1] / given.throughput.step_seconds
    interval, cost = costs(given).cost_interval_usd, costs(given).cost_usd
    assert interval is not None
    assert cost is not None
    assert interval[1] == pytest.approx(cost * ratio)


def test_a_price_that_is_given_wins_and_has_no_date() -> None:
    given = costs(rented(price_usd_per_hour=0.5))
    assert (given.usd_per_hour, given.price_basis, given.price_as_of) == (0.5, "given", None)


def test_spot_is_a_price_of_its_own() -> None:
    assert costs(rented("verda-l40s-spot", spot=True)).usd_per_hour == 0.941
    assert costs(rented("verda-l40s-spot")).cost_usd is None


@pytest.mark.parametrize("tokens", [1_000_000, 100_000_000, 10**9])
def test_quotas_say_how_often_to_resume(tokens: int) -> None:
    answered = rented("kaggle-gpu-t4-x2", tokens=tokens)
    given, needed = costs(answered).sessions, hours(answered)
    assert given is not None
    assert given.sessions == math.ceil(needed / (12 - SETUP_HOURS))
    assert given.weeks == math.ceil((needed + given.sessions * SETUP_HOURS) / 30)
    assert given.must_resume == ("resume" in given.message) == (tokens > 1_000_000)


def test_buying_pays_off_after_the_hours_that_its_price_buys() -> None:
    given = costs(rented(purchase_usd=1600, electricity_usd_per_kwh=0.3)).purchase
    assert given is not None
    assert given.break_even_hours == pytest.approx(1600 / (0.69 - 0.45 * 0.3))
    never = costs(rented("kaggle-gpu-t4-x2", purchase_usd=1600)).purchase
    assert never is not None
    assert never.break_even_hours is None


def test_without_tokens_there_is_a_price_but_no_cost() -> None:
    given = costs(rented(tokens=None))
    assert given.usd_per_hour == 0.69
    assert given.cost_usd is None
    assert answer(request(LLAMA_8B, RTX_4090)).costs is None


@pytest.mark.parametrize(
    ("machine", "field"),
    [
        ({"offer": "no-such-offer"}, "machine.offer"),
        ({"offer": "hugging-face-spaces-zerogpu"}, "machine.offer"),
        ({"offer": "aws-p5-48xlarge", "device": RTX_4090}, "machine.device"),
        ({"offer": "aws-p5-48xlarge", "device_count": 4}, "machine.device_count"),
    ],
)
def test_an_offer_that_says_something_else_is_refused(machine: dict[str, Any], field: str) -> None:
    asked = EstimateRequest.model_validate({"model": {"id": LLAMA_8B}, "machine": machine})
    with pytest.raises(MachineError) as refused:
        resolve_machine(asked.machine)
    assert refused.value.field == field


def test_rentals_are_the_offers_that_run_it_cheapest_first() -> None:
    asked = request(LLAMA_8B, RTX_4090, method="qlora", tokens=TOKENS)
    found = rentals(asked, Catalogue().spec(asked.model), limit=5, free_limit=2)
    assert [item.offer.free for item in found] == [True, True, *[False] * 5]
    paid = [item.usd_per_million_tokens for item in found[2:]]
    assert paid == sorted(paid)
    for item in found:
        given = answer(item.request)
        assert given.verdict == item.verdict
        assert given.costs == item.costs
        assert given.throughput is not None
        assert given.throughput.tokens_per_second == item.tokens_per_second
