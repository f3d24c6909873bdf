from __future__ import annotations

from planner.architecture.count import total
from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    mlp_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("phi3small")


def test_the_count_is_within_the_rounding_of_the_claim() -> None:
    spec = spec_of("microsoft/Phi-3-small-8k-instruct")
    assert total(spec) == 7_392_272_384
    assert spec.tied
    assert spec.notes[0].code == "block_sparse_attention_as_full"
    assert mlp_of(spec).activation == "gegelu"
