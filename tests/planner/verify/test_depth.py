"""Which depths are traced, and that they are enough: the extension equals the whole trace."""

from dataclasses import replace
from typing import Any

import pytest

from planner.architecture.registry import read_config
from planner.verify.depth import MOST_LAYERS_TRACED_WHOLE, Depths, depths, pattern
from planner.verify.settings import TraceSettings
from tests.planner.verify import tiny


def test_a_pattern_is_a_prefix_and_a_period() -> None:
    assert pattern("aaaa") == (0, 1)
    assert pattern("baaaa") == (1, 1)
    assert pattern("abababab") == (0, 2)
    assert pattern("cabcabcab") == (0, 3)


def test_without_a_pattern_the_prefix_is_nearly_everything() -> None:
    prefix, period = pattern("abcdefgh")
    assert (prefix, period) == (7, 1)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("a" * 32, Depths(2, 3)),
        ("bbb" + "a" * 58, Depths(8, 9)),
        ("aaab" * 12, Depths(8, 12)),
        ("aaaaab" * 10 + "aa", Depths(14, 20)),
        ("aaa", Depths(3, None)),
        ("abcdefgh", Depths(8, None)),
    ],
)
def test_few_layers_are_enough(layers: str, expected: Depths) -> None:
    assert depths(layers) == expected


def test_trained_layers_at_the_end_fit_into_the_shallow_half() -> None:
    assert depths("a" * 32, trained_from_the_end=5) == Depths(12, 13)
    assert depths("a" * 32, trained_from_the_end=32) == Depths(2, 3)


def test_checkpointing_of_some_layers_lengthens_the_period() -> None:
    assert depths("ab" * 18, checkpoint_every=3) == Depths(12, 18)


def test_many_layers_without_a_pattern_are_refused() -> None:
    count = MOST_LAYERS_TRACED_WHOLE + 1
    assert depths(range(count)) is None


# Clipping stacks one norm a parameter into one tensor, whose rounding isn't a straight line.
ROUNDING_BYTES = 1024
SMALL = TraceSettings(sequence_length=256, micro_batch_size=2, lora_rank=4, optimizer_impl="fused")
SETTINGS = [
    replace(SMALL, activation_checkpointing="full", sequence_length=1024),
    replace(SMALL, method="lora"),
    replace(SMALL, method="freeze", trainable_layers=2),
    replace(SMALL, method="lora", activation_checkpointing="full", checkpoint_every=2),
]
DEEP: list[dict[str, Any]] = [
    {**tiny.GEMMA2, "num_hidden_layers": 13},
    {**tiny.DEEPSEEK_V3, "num_hidden_layers": 10},
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS, ids=["full", "lora", "freeze", "every_second"])
@pytest.mark.parametrize("config", DEEP, ids=lambda config: config["model_type"])
def test_the_depths_are_enough(config: dict[str, Any], settings: TraceSettings) -> None:
    from planner.verify.trace import trace_step
    from planner.verify.verification import chosen_depths, traced

    spec = read_config(config)
    chosen = chosen_depths(spec, settings)
    assert chosen is not None
    assert chosen.deep is not None
    full = trace_step(config, settings)
    extended, _ = traced(config, settings, chosen, spec.text.layer_count)
    assert extended.moments == pytest.approx(full.moments, abs=ROUNDING_BYTES)
    assert extended.peak.by_term == pytest.approx(full.bytes_by_term_at_peak, abs=ROUNDING_BYTES)
