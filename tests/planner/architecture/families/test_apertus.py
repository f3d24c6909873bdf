from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    mlp_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("apertus")


def test_the_activation_has_two_parameters() -> None:
    assert [module.elements for module in mlp_of(spec_of("swiss-ai/Apertus-8B-Instruct-2509")).extra] == [1, 1]
    assert mlp_of(spec_of("swiss-ai/Apertus-8B-Instruct-2509", hidden_act="relu2")).extra == ()
