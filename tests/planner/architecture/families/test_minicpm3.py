from __future__ import annotations

from planner.architecture.spec import LatentAttention
from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    layers_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("minicpm3")


def test_attention_is_latent_in_a_dense_model() -> None:
    mixer = layers_of(spec_of("openbmb/MiniCPM3-4B"))[0].sublayers[0].mixer
    assert isinstance(mixer, LatentAttention)
    assert (mixer.kv_rank, mixer.value_head_dim) == (256, 64)
