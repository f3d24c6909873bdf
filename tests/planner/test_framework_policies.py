"""Each trainer has a policy with its sources, or says what is not known of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.framework_policies import STATUSES, FrameworkPolicy, framework_policies, why_not_modelled
from planner.plan.covered import FRAMEWORKS
from tests.planner.asking import LLAMA_8B, RTX_4090, ask

ROOT = Path(__file__).parents[2]


def test_the_modelled_ones_are_those_that_a_request_may_name() -> None:
    assert sorted(one.id for one in framework_policies() if one.status == "modelled") == sorted(FRAMEWORKS)


@pytest.mark.parametrize("policy", framework_policies(), ids=lambda one: one.id)
def test_a_policy_has_rules_with_sources_that_stand_somewhere_or_says_what_is_unknown(policy: FrameworkPolicy) -> None:
    assert policy.status in STATUSES
    assert policy.rules or policy.unknown
    assert bool(policy.rules) == (policy.status != "not_modelled")
    for rule in policy.rules:
        assert rule.rule
        assert rule.source
        assert all((ROOT / place).is_file() for place in rule.where.split(", ")), rule.where


def test_a_refusal_says_what_is_not_known_of_the_trainer() -> None:
    reason = ask(LLAMA_8B, RTX_4090, framework="unsloth").reasons[0]
    assert why_not_modelled("unsloth") in reason.message
    assert why_not_modelled("never heard of") == ""
