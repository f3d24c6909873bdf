from __future__ import annotations

from typing import Any

import pytest

from app.reports.comparison import Comparison, compare, summary_of
from app.reports.rows import Row
from planner.contract import Answer, Costs, EstimateRequest, MachineRequest
from planner.hardware import resolve_machine
from tests.app.fakes import fake_estimate


def answer(device: str = "nvidia-rtx-4090-24gb", model_type: str = "llama", **run: Any) -> Answer:
    request = EstimateRequest.model_validate({"model": {"id": "a/b"}, "machine": {"device": device}, "run": run})
    machine = resolve_machine(request.machine)
    return fake_estimate(request, config={"model_type": model_type}, machine=machine)


def comparison(*answers: Answer, baseline: int = 0) -> Comparison:
    plans = [(summary_of(item, "a/b", str(item.request.machine.device)), item) for item in answers]
    return compare(plans, baseline)


def row(found: Comparison, key: str) -> Row:
    return next(row for group in found.groups for row in group.rows if row.key == key)


def test_differences_are_held_against_the_baseline() -> None:
    found = comparison(answer(method="full"), answer(method="qlora"), answer(method="lora"), baseline=1)
    needed = row(found, "required")
    assert [(item.letter, item.text) for item in needed.differences] == [("A", "+90.0 GiB")]
    assert [cell.text for cell in needed.cells] == ["103.9 GiB", "13.9 GiB", "13.9 GiB"]
    assert row(found, "verdict").differences[0].text == "Does not fit"


def test_the_baseline_can_be_another() -> None:
    found = comparison(answer(method="full"), answer(method="qlora"), baseline=0)
    assert [(item.letter, item.text) for item in row(found, "required").differences] == [("B", "−90.0 GiB")]


def test_best_is_the_best_of_those_that_can_run() -> None:
    small, big = answer("nvidia-rtx-4090-24gb"), answer("nvidia-a100-sxm-80gb")
    impossible = answer("nvidia-h100-nvl-94gb", method="full")
    spare = row(comparison(impossible, small, big), "headroom")
    assert [cell.is_best for cell in spare.cells] == [False, False, True]


def test_nothing_is_best_where_all_show_the_same_or_only_one_can_run() -> None:
    alike = comparison(answer(), answer(micro_batch_size=2))
    assert not any(cell.is_best for group in alike.groups for row in group.rows for cell in row.cells)
    alone = comparison(answer(), answer(method="full"))
    assert not any(cell.is_best for group in alone.groups for row in group.rows for cell in row.cells)


def test_only_differences_leaves_out_what_is_alike() -> None:
    found = comparison(answer(), answer(micro_batch_size=2))
    keys = {row.key for group in found.only_differences() for row in group.rows}
    assert keys == {"run.micro_batch_size"}


def test_what_nobody_said_is_marked_as_assumed() -> None:
    found = comparison(answer(sequence_length=4096), answer())
    assert [(cell.text, cell.note) for cell in row(found, "run.sequence_length").cells] == [
        ("2,048", "assumed"),  # the made-up engine always assumes it
        ("2,048", "assumed"),
    ]
    assert [cell.note for cell in row(found, "run.optimizer").cells] == ["assumed", "assumed"]


def test_plans_are_called_by_what_sets_them_apart() -> None:
    def named(*answers: Answer) -> list[str]:
        return [plan.name for plan in comparison(*answers).plans]

    assert named(answer(), answer("nvidia-t4-16gb")) == ["nvidia-rtx-4090-24gb", "nvidia-t4-16gb"]
    assert named(answer(method="full"), answer(method="qlora")) == ["Full", "QLoRA"]
    assert named(answer(micro_batch_size=1), answer(micro_batch_size=4)) == ["micro-batch 1", "micro-batch 4"]
    assert named(answer(), answer()) == ["nvidia-rtx-4090-24gb", "nvidia-rtx-4090-24gb"]


def test_all_bars_have_one_scale() -> None:
    found = comparison(answer("nvidia-t4-16gb"), answer("nvidia-a100-sxm-80gb"))
    small, big = found.bars
    assert small is not None
    assert big is not None
    assert small.ticks == big.ticks
    assert small.required_x == pytest.approx(big.required_x)
    assert small.total_x < big.total_x <= 100


def test_a_plan_that_is_not_modelled_stands_beside_the_others() -> None:
    found = comparison(answer(), answer(model_type="martian"))
    assert found.bars[1] is None
    assert [cell.text for cell in row(found, "required").cells] == ["13.9 GiB", "—"]
    assert row(found, "required").differences[0].text == "—"


def test_plans_without_any_numbers_have_no_rows_for_them() -> None:
    found = comparison(answer(model_type="martian"), answer(model_type="martian"))
    assert "Time and money" not in {group.label for group in found.groups}


def priced(item: Answer, tokens_per_second: float, cost_usd: float | None) -> Answer:
    assert item.throughput is not None
    costs = Costs(
        offer=None,
        provider=None,
        usd_per_hour=1.0,
        price_basis="given",
        price_as_of=None,
        cost_usd=cost_usd,
        cost_interval_usd=None,
        energy_kwh=None,
        energy_interval_kwh=None,
        electricity_usd=None,
    )
    time = item.throughput.model_copy(update={"tokens_per_second": tokens_per_second})
    return item.model_copy(update={"throughput": time, "costs": costs})


def test_the_headline_says_what_fits_what_is_fastest_and_what_costs_least() -> None:
    tight = priced(answer(micro_batch_size=4), 3000.0, 2.0)
    found = comparison(answer(method="full"), priced(answer(), 2000.0, 1.5), tight)
    assert found.headline == (
        "1 of 3 fit: B. C is tight. C is the fastest at 3,000 tokens/s. B costs the least to rent, $1.50."
    )
    free = comparison(priced(answer(), 2000.0, 0.0), priced(answer(), 2000.0, 1.0))
    assert free.headline == "2 of 2 fit: A and B. A costs nothing to rent."
    assert comparison(answer(method="full"), answer(method="full")).headline.startswith("None of the 2 plans can run")
    assert comparison(answer(), answer()).headline == "2 of 2 fit: A and B."


def test_much_less_is_said_as_a_part() -> None:
    found = comparison(priced(answer(), 2000.0, 84.0), priced(answer(), 24.0, 1.0))
    assert row(found, "rate").differences[0].text == "−1,976 (83 × less)"
    assert row(found, "cost").differences[0].text == "−$83.00 (84 × less)"


def test_plans_are_not_called_by_what_nobody_set() -> None:
    half = answer().model_copy(update={"assumed": {"run.weights_dtype": "float16"}})
    names = [plan.name for plan in comparison(answer(), half).plans]
    assert names == ["nvidia-rtx-4090-24gb", "nvidia-rtx-4090-24gb"]


def test_an_offer_says_how_many_devices_there_are() -> None:
    rented = answer()
    machine = MachineRequest(offer="kaggle-gpu-t4-x2")
    rented = rented.model_copy(update={"request": rented.request.model_copy(update={"machine": machine})})
    cells = row(comparison(answer(), rented), "run.device_count").cells
    assert [cell.text for cell in cells] == ["1", "2"]


def test_what_costs_nothing_is_free() -> None:
    free, paid = priced(answer(), 100.0, 0.0), priced(answer(), 100.0, 2.0)
    assert [cell.text for cell in row(comparison(free, free), "cost").cells] == ["free", "free"]
    cost = row(comparison(paid, free), "cost")
    assert ([cell.text for cell in cost.cells], cost.differences[0].text) == (["$2.00", "free"], "−$2.00")


def test_shares_differ_by_points() -> None:
    base = answer()
    assert base.throughput is not None
    low, high = (
        base.model_copy(update={"throughput": base.throughput.model_copy(update={"mfu": mfu})}) for mfu in (0.4, 0.455)
    )
    assert row(comparison(low, high), "mfu").differences[0].text == "+5.5 points"
