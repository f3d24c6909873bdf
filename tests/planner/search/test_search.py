"""A search answers what the estimate answers of each plan, finds what is best, and drops nothing silently."""

from __future__ import annotations

import itertools
from time import process_time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from benchmarks.search import WHOLE_SPACE
from planner.advice import merge_patch
from planner.architecture.spec import ModelSpec
from planner.catalog.models import model
from planner.contract import Answer, EstimateRequest, MachineRequest, ModelReference
from planner.estimate import sha256_of, spec_of
from planner.hardware import Machine, resolve_machine
from planner.search import SearchAnswer, SearchPlan, SearchRequest, SpaceError, search
from planner.search.front import first_of, front
from planner.search.space import space_of
from tests.planner.asking import LLAMA_8B, RTX_4090, answer, required

FREE: dict[str, list[Any]] = {
    "run.method": ["full", "lora", "qlora"],
    "run.activation_checkpointing": ["none", "full"],
    "run.micro_batch_size": [1, 2, 4],
    "run.sequence_length": [512, 2048],
    "run.lora.rank": [8, 64],
}


class Catalogue:
    """Models and machines of the catalogues."""

    def spec(self, reference: ModelReference) -> ModelSpec:
        config = reference.config or model(reference.id or "").config
        return spec_of(config, sha256_of(config))

    def machine(self, request: MachineRequest) -> Machine:
        return resolve_machine(request)


def asked(free: dict[str, list[Any]], constraints: dict[str, Any] | None = None, **base: Any) -> SearchRequest:
    document = {"model": {"id": LLAMA_8B}, "machine": {"device": RTX_4090}, "run": {"tokens": 10_000_000}}
    return SearchRequest.model_validate(
        {"base": merge_patch(document, base), "free": free, "constraints": constraints or {}, "limit": 100}
    )


def found(free: dict[str, list[Any]], constraints: dict[str, Any] | None = None, **base: Any) -> SearchAnswer:
    return search(asked(free, constraints, **base), Catalogue())


def one_by_one(request: SearchRequest) -> list[Answer]:
    """Every combination, estimated by itself."""
    document = request.base.model_dump(mode="json", exclude_unset=True)
    answers: list[Answer] = []
    for values in itertools.product(*request.free.values()):
        chosen = dict(zip(request.free, values, strict=True))
        changed = document
        for path, value in chosen.items():
            nested: Any = value
            for name in reversed(path.split(".")):
                nested = {name: nested}
            changed = merge_patch(changed, nested)
        if chosen.get("run.method") == "full":
            changed["run"].pop("lora", None)
        answers.append(answer(EstimateRequest.model_validate(changed)))
    return answers


def test_it_finds_what_estimates_one_by_one_find() -> None:
    request = asked(FREE)
    given = search(request, Catalogue())
    answers = {each.request.model_dump_json(): each for each in one_by_one(request)}
    fitting = [each for each in answers.values() if each.verdict == "fits"]
    assert given.evaluated == len(answers)
    assert given.feasible == len(fitting)
    assert {answers[plan.request.model_dump_json()].verdict for plan in given.frontier} == {"fits"}
    for plan in given.frontier:
        single = answers[plan.request.model_dump_json()]
        assert plan.required_bytes == required(single)
        assert single.throughput is not None
        assert plan.tokens_per_second == single.throughput.tokens_per_second
    fastest = max(each.throughput.tokens_per_second for each in fitting if each.throughput)
    assert given.best["fastest"].tokens_per_second == pytest.approx(fastest)
    assert given.best["least_memory"].required_bytes == min(required(each) for each in fitting)


def test_no_plan_of_the_front_is_beaten_by_another() -> None:
    plans = found(FREE).frontier
    for one, other in itertools.permutations(plans, 2):
        assert not _beats(other, one)


def _beats(left: SearchPlan, right: SearchPlan) -> bool:
    def figures(plan: SearchPlan) -> tuple[float, ...]:
        assert plan.tokens_per_second is not None
        length = plan.request.run.sequence_length or 0
        return (plan.required_bytes, -plan.tokens_per_second, -plan.quality.order, -length)

    return figures(left) != figures(right) and all(a <= b for a, b in zip(figures(left), figures(right), strict=True))


def test_every_change_is_a_patch_that_makes_the_plan() -> None:
    request = asked(FREE)
    base = request.base.model_dump(mode="json", exclude_unset=True)
    given = search(request, Catalogue())
    for plan in [*given.plans, *given.frontier, *given.best.values()]:
        patched = answer(EstimateRequest.model_validate(merge_patch(base, plan.change)))
        assert patched.verdict == plan.verdict
        assert required(patched) == plan.required_bytes


def test_every_combination_is_counted_once() -> None:
    free = {**FREE, "run.optimizer_impl": ["fused", "foreach"], "run.quantization.scheme": ["nf4", "int8"]}
    given = found(free, {"minimum_sequence_length": 1024})
    assert given.repeated == given.space * 2 // 6  # the scheme says nothing of full and of LoRA
    assert given.feasible + sum(reason.count for reason in given.refused) == given.evaluated
    assert any(reason.code == "minimum_sequence_length" for reason in given.refused)


def test_contradictions_are_counted_with_their_reason() -> None:
    given = found({"run.gradient_dtype": ["float32", "bfloat16"], "run.method": ["full", "lora"]})
    reasons = [reason for reason in given.refused if reason.code == "contradicts_framework"]
    assert {reason.field for reason in reasons} == {"run.gradient_dtype"}
    assert sum(reason.count for reason in reasons) == 2
    assert given.space == 4


def test_the_smallest_change_changes_as_little_as_it_can() -> None:
    given = found(FREE, run={"method": "full", "micro_batch_size": 1, "sequence_length": 512})
    assert given.base_verdict == "does_not_fit"
    values = given.best["smallest_change"].values
    assert values["run.micro_batch_size"] == 1
    assert values["run.sequence_length"] == 512
    assert values["run.activation_checkpointing"] == "none"
    assert values["run.method"] == "qlora"
    assert "smallest_change" not in found(FREE, run={"method": "qlora"}).best


def test_machines_are_compared_by_memory_and_price() -> None:
    offers = ["runpod-rtx-4090-secure", "aws-p5-4xlarge", "kaggle-gpu-t4-x2", "openrelay-rtx-3090"]
    given = found({"machine.offer": offers}, machine={"device": None}, run={"method": "qlora"})
    assert given.best["cheapest"].usd_per_hour == 0
    assert given.best["smallest_machine"].request.machine.offer in {"runpod-rtx-4090-secure", "openrelay-rtx-3090"}
    assert given.best["fastest"].request.machine.offer == "aws-p5-4xlarge"
    paid = found({"machine.offer": offers}, {"budget_usd": 1, "vendor": "nvidia"}, machine={"device": None})
    assert all((plan.cost_usd or 0) <= 1 for plan in paid.plans)


@pytest.mark.parametrize(
    ("constraints", "code"),
    [
        ({"hours": 0.01}, "hours"),
        ({"budget_usd": 1}, "budget_usd"),
        ({"minimum_tokens_per_second": 1e9}, "minimum_tokens_per_second"),
        ({"minimum_headroom_gib": 23}, "minimum_headroom_gib"),
        ({"minimum_rank": 100}, "minimum_rank"),
        ({"minimum_micro_batch_size": 100}, "minimum_micro_batch_size"),
        ({"vendor": ["amd"]}, "vendor"),
    ],
)
def test_what_breaks_a_constraint_is_counted_under_its_name(constraints: dict[str, Any], code: str) -> None:
    given = found({"run.method": ["qlora"]}, constraints)
    assert given.feasible == 0
    assert [reason.code for reason in given.refused] == [code]
    assert "none keeps" in given.summary


def test_plans_that_differ_in_the_machine_alone_are_different() -> None:
    disks = found({"machine.disk_free_gib": [1, 1000]}, {"verdict": "any"})
    assert (disks.evaluated, disks.repeated) == (2, 0)
    figures = {"name": "ours", "memory_gib": 24, "memory_bandwidth_gb_s": 1000}
    devices = found(
        {"machine.device": [figures, figures | {"memory_bandwidth_gb_s": 500}, figures]}, {"verdict": "any"}
    )
    assert (devices.evaluated, devices.repeated) == (2, 0)


@pytest.mark.parametrize(
    ("batches", "sequences", "field"),
    [([1, 2**20], [512, 2**24], "run.micro_batch_size"), ([1024, 2048], [1, 2**24], "run.sequence_length")],
)
def test_only_sizes_that_are_too_large_are_refused(batches: list[int], sequences: list[int], field: str) -> None:
    given = found({"run.micro_batch_size": batches, "run.sequence_length": sequences}, {"verdict": "any"})
    assert {(each.code, each.field) for each in given.refused} == {("sizes_too_large", field)}
    assert given.best["least_memory"].values == {
        "run.micro_batch_size": batches[0],
        "run.sequence_length": sequences[0],
    }
    assert given.space == 4 == given.evaluated + sum(each.count for each in given.refused)


@pytest.mark.parametrize("path", ["run.micro_batch_size", "run.sequence_length", "run.lora.rank"])
@pytest.mark.parametrize("value", [None, True, 1.5, "8", [], {}])
def test_a_size_that_is_no_integer_is_refused_by_path_and_value(path: str, value: Any) -> None:
    with pytest.raises(SpaceError) as refused:
        found({path: [1, value]})
    assert (refused.value.field, refused.value.value) == (f"free.{path}", value)


@pytest.mark.parametrize("path", ["run.tokens", "run.examples"])
@pytest.mark.parametrize("limit", ["hours", "budget_usd"])
def test_how_much_is_trained_may_be_free_under_a_limit(path: str, limit: str) -> None:
    machine = {"price_usd_per_hour": 1}
    free: dict[str, list[Any]] = {"run.method": ["qlora"], path: [1_000, 10**13]}
    given = found(free, {limit: 10}, machine=machine, run={"tokens": None})
    assert [plan.values[path] for plan in given.plans] == [1_000]
    assert [(each.code, each.count) for each in given.refused] == [(limit, 1)]


@pytest.mark.parametrize(("said", "free"), [("examples", "tokens"), ("tokens", "examples")])
def test_what_is_free_replaces_what_the_base_says_in_other_words(said: str, free: str) -> None:
    run = {"tokens": None} | {said: 1_000, "epochs": 2 if said == "examples" else None}
    given = found({f"run.{free}": [10, 20], "run.method": ["qlora"]}, run=run)
    assert (given.evaluated, given.refused) == (2, [])


def test_tokens_and_examples_are_not_both_free() -> None:
    with pytest.raises(SpaceError, match="free one of them"):
        found({"run.tokens": [1_000], "run.examples": [5]}, run={"tokens": None})


def test_a_way_of_training_stands_once_whatever_the_machine() -> None:
    given = found({"run.method": ["lora", "qlora"], "machine.device": [RTX_4090, "nvidia-h100-sxm-80gb"]})
    assert [plan.values["run.method"] for plan in given.plans] == ["lora", "qlora"]
    assert {plan.values["machine.device"] for plan in given.plans} == {"nvidia-h100-sxm-80gb"}


def test_a_combination_that_contradicts_itself_is_refused_with_a_code_and_a_sentence() -> None:
    given = found(
        {"run.examples": [5, None], "run.epochs": [2]}, {"verdict": "any"}, run={"tokens": None, "examples": 5}
    )
    assert [(reason.code, reason.field, reason.message) for reason in given.refused] == [
        ("invalid_request", "run", "`epochs` needs `examples`")
    ]


def test_what_is_free_of_charge_keeps_every_budget_even_where_its_time_is_unknown() -> None:
    figures = {"name": "ours", "memory_gib": 24, "memory_bandwidth_gb_s": 1000}
    machine = {"device": figures, "price_usd_per_hour": 0}
    given = found({"run.method": ["qlora"]}, {"budget_usd": 0, "verdict": "any"}, machine=machine)
    assert [plan.tokens_per_second for plan in given.plans] == [None]


def test_a_budget_needs_to_know_how_much_is_trained() -> None:
    with pytest.raises(SpaceError, match="tokens"):
        found({}, {"hours": 5}, run={"tokens": None})


@pytest.mark.parametrize(
    ("free", "field"),
    [
        ({"method": ["lora"]}, "free.method"),
        ({"run.tokens": ["*"]}, "free.run.tokens"),
        ({"run.micro_batch_size": list(range(1, 500)), "run.sequence_length": list(range(1, 500)),
          "run.lora.rank": list(range(1, 20))}, "free"),
        ({"machine.device": ["*"], "run.method": ["*"], "run.optimizer": ["*"]}, "free"),
    ],
)  # fmt: skip
def test_what_is_no_space_or_too_large_a_one_is_refused_by_name(free: dict[str, list[Any]], field: str) -> None:
    with pytest.raises(SpaceError) as refused:
        found(free)
    assert refused.value.field == field
    assert refused.value.accepted


def test_the_whole_space_of_a_model_and_a_machine_is_no_too_large_one() -> None:
    request = SearchRequest.model_validate(
        {"base": {"model": {"id": LLAMA_8B}, "machine": {"device": RTX_4090}}, "free": WHOLE_SPACE}
    )
    space = space_of(request)
    assert space.combinations * space.points == 226_800


def test_a_value_that_its_field_does_not_take_is_refused() -> None:
    with pytest.raises(ValidationError):
        found({"run.method": ["lora", "lor"]})


@given(rows=st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=40))
@settings(max_examples=50)
def test_the_front_is_what_nothing_beats(rows: list[tuple[int, int, int]]) -> None:
    values = np.array(rows, dtype=np.float64)
    kept = {tuple(values[position]) for position in front(values)}
    beaten = {tuple(one) for one in values for other in values if (other <= one).all() and (other < one).any()}
    assert kept == {tuple(one) for one in values} - beaten


@pytest.mark.parametrize("objectives", [2, 3, 4, 5])
@pytest.mark.parametrize("levels", [4, 30, 10_000])
def test_the_front_of_many_plans_is_that_of_comparing_all_pairs(objectives: int, levels: int) -> None:
    values = np.random.default_rng(levels).integers(0, levels, (1_500, objectives)).astype(np.float64)
    values[:, -1] -= values[:, :-1].sum(axis=1)
    below = (values[:, None] <= values).all(axis=2)
    beats = below & ~below.T | np.triu(below & below.T, 1)
    assert front(values).tolist() == np.flatnonzero(~beats.any(axis=0)).tolist()


def test_a_front_of_every_plan_ends_soon() -> None:
    """One comparison of a plan with all others, plan by plan, took 24 seconds for 27,000."""
    batch, sequence, rank = np.mgrid[1:31, 1:31, 1:31].reshape(3, -1).astype(np.float64)
    values = np.column_stack((batch * sequence + rank, 1 / batch + sequence + rank, -rank, -sequence))
    started = process_time()
    assert front(values).size == 27_000
    assert process_time() - started < 30


def test_ties_are_broken_by_the_next_key() -> None:
    assert first_of(np.array([2, 1, 1]), np.array([0, 5, 3])) == 2
