"""Where a plan's model comes from, and what is said when it is nowhere."""

from __future__ import annotations

import pytest

from app.problems import Problem
from app.settings import Settings
from planner.contract import EstimateRequest
from tests.app.conftest import fake_plans


@pytest.mark.parametrize(
    ("asked", "near"),
    [("meta-lama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"), ("Qwen/Qwen3-0.6", "Qwen/Qwen3-0.6B"), ("x/GPT2", "gpt2")],
)
def test_a_misspelt_model_gets_the_nearest_ids(settings: Settings, asked: str, near: str) -> None:
    request = EstimateRequest.model_validate({"model": {"id": asked}})
    with pytest.raises(Problem) as caught:
        fake_plans(settings).plan(request)
    assert near in caught.value.document.detail
    assert near in (caught.value.document.accepted or "")


def test_what_is_like_nothing_gets_no_hint(settings: Settings) -> None:
    with pytest.raises(Problem) as caught:
        fake_plans(settings).plan(EstimateRequest.model_validate({"model": {"id": "zzzz/qqqqqqqqq"}}))
    assert "the catalogue has" not in caught.value.document.detail
