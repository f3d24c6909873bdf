from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.knobs import Knob, flatten, knobs, knobs_by_name, unflatten
from planner.contract import EstimateRequest


def values_of(knob: Knob) -> st.SearchStrategy[Any]:
    """Values that the contract takes for a knob."""
    if knob.name == "device":
        return st.sampled_from(["this-machine", "nvidia-rtx-4090-24gb"])
    if knob.name == "framework":
        return st.sampled_from(["transformers", "axolotl"])
    if knob.name == "parallelism.zero_stage":
        return st.integers(0, 3)
    if knob.choices:
        return st.sampled_from(knob.choices)
    if knob.type == "integer":
        return st.integers(int(knob.minimum or 0), int(knob.maximum or 10))
    if knob.type == "number":
        lowest = (knob.minimum or 0.0) + (0.25 if knob.exclusive else 0.0)
        highest = min(knob.maximum or 0.75, 1e6)
        return st.floats(lowest, highest, allow_nan=False, exclude_max=knob.exclusive_maximum)
    if knob.type == "flag":
        return st.booleans()
    names = st.text("abcdefgh_.", min_size=1, max_size=8)
    return st.lists(names, min_size=1, max_size=3) if knob.type == "list" else names


PLAIN = [
    knob
    for knob in knobs()
    if not knob.name.startswith("device.") and knob.name not in ("tokens", "examples", "epochs")
]


@st.composite
def requests(draw: st.DrawFn) -> EstimateRequest:
    chosen = draw(st.lists(st.sampled_from(PLAIN), unique_by=lambda knob: knob.name.split(".")[0], max_size=12))
    tree: dict[str, Any] = {"model": {"id": "a/b"}, "machine": {}, "run": {}}
    for knob in chosen:
        place = tree
        for name in knob.path[:-1]:
            place = place.setdefault(name, {})
        place[knob.path[-1]] = draw(values_of(knob))
    return EstimateRequest.model_validate(tree)


@given(requests())
def test_flattened_requests_come_back_as_the_same_plan(request: EstimateRequest) -> None:
    back = EstimateRequest.model_validate({"model": {"id": "a/b"}, **unflatten(flatten(request))})
    assert flatten(back) == flatten(request)
    assert back.machine == request.machine


def test_every_knob_has_words_for_people() -> None:
    assert [knob.name for knob in knobs() if not knob.help] == []


def test_names_are_unique() -> None:
    assert len(knobs_by_name()) == len(knobs())


@pytest.mark.parametrize("text", ["x", "1.5", "", "9" * 50, "\uff11"])
def test_what_is_no_integer_is_left_to_the_contract_or_read(text: str) -> None:
    assert knobs_by_name()["sequence_length"].parse(text) in (text, 1)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("tokens", "10M", 10_000_000),
        ("tokens", "1.5b", 1_500_000_000),
        ("tokens", "2,000,000", 2_000_000),
        ("examples", "5k", 5000),
        ("sequence_length", "4k", 4096),
        ("sequence_length", "128K", 131_072),
        ("tokens", "1.0000001k", "1.0000001k"),
        ("tokens", "10 apples", "10 apples"),
        ("tokens", "1e6", "1e6"),
    ],
)
def test_suffixes_count_thousands_and_a_sequence_counts_in_1024(name: str, text: str, value: int | str) -> None:
    assert knobs_by_name()[name].parse(text) == value


def test_figures_win_over_an_identifier() -> None:
    values = unflatten({"device": "this-machine", "device.memory_gib": "24"})
    assert values["machine"]["device"] == {"memory_gib": 24.0}
    assert unflatten({"device.memory_gib": "24", "device": "x"})["machine"]["device"] == {"memory_gib": 24.0}


def test_unknown_names_are_kept_for_the_contract_to_refuse() -> None:
    assert unflatten({"bogus": "1"})["run"] == {"bogus": "1"}


def test_defaults_are_not_written() -> None:
    request = EstimateRequest.model_validate({"model": {"id": "a/b"}, "run": {"lora": {"rank": 16}, "compile": False}})
    assert flatten(request) == {}
