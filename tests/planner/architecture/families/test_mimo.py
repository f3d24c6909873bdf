from __future__ import annotations

from planner.architecture.count import checkpoint_total
from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("mimo")


def test_the_prediction_layer_is_stored_but_not_trained() -> None:
    spec = spec_of("XiaomiMiMo/MiMo-7B-Base")
    assert checkpoint_total(spec) == 7_833_409_536
    assert spec.notes
    assert spec_of("XiaomiMiMo/MiMo-7B-Base", num_nextn_predict_layers=0).mtp_parameters == 0
