from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    layers_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("opt")


def test_positions_have_two_spare_rows() -> None:
    assert spec_of("facebook/opt-125m").embeddings[1].shape == (2050, 768)


def test_the_350m_model_projects_its_embedding_and_norms_last() -> None:
    spec = spec_of("facebook/opt-350m")
    assert [module.name for module in spec.text.before] == ["project_in"]
    assert [module.name for module in spec.text.after] == ["project_out"]
    assert layers_of(spec)[0].sublayers[0].norm_after_residual
