"""The closed form against traces of the library's own models, over the first runs of the pairwise sample."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import pytest

from benchmarks.pairwise.cases import KNOBS, config_of, families, is_admitted, knobs, planned, sample

pytestmark = pytest.mark.slow


def test_the_sample_depends_on_the_seed_alone() -> None:
    def admitted(_case: Mapping[str, Any]) -> bool:
        return True

    first, second = (list(islice(sample(knobs(), admitted), count)) for count in (5, 20))
    assert second[:5] == first


def test_what_the_closed_form_refuses_is_not_drawn() -> None:
    case = {name: values[0] for name, values in knobs("gpt2").items()}
    assert is_admitted(case | {"sequence_length": 128})
    assert not is_admitted(case | {"sequence_length": 2048})


def test_models_keep_each_kind_of_layer() -> None:
    assert config_of("llama")["num_hidden_layers"] == 2
    assert config_of("qwen3_next")["num_hidden_layers"] == 4
    assert "llama" in families()


def test_precision_optimizer_and_checkpoints_are_said_in_the_contracts_words() -> None:
    values = {name: values[-1] for name, values in KNOBS.items()} | {"precision": "float32 autocast", "family": "llama"}
    _, evaluation, settings = planned(values)
    assert (settings.weights_dtype, settings.compute_dtype) == ("float32", "bfloat16")
    assert settings.checkpoint_every == 2
    assert evaluation.plan.optimizer == "lion"
