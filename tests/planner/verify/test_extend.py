"""Two shallow traces give the deep one, to the byte."""

from dataclasses import replace
from typing import Any

import pytest

from planner.verify.extend import extend
from planner.verify.settings import TraceSettings
from planner.verify.trace import trace_step
from tests.planner.verify import tiny

pytestmark = pytest.mark.slow


DEEP = 8
SMALL = TraceSettings(sequence_length=64, micro_batch_size=2, lora_rank=4)
CASES = [
    SMALL,
    replace(SMALL, method="lora"),
    replace(SMALL, method="lora", activation_checkpointing="full", sequence_length=512),
    replace(SMALL, optimizer_impl="for_loop", activation_checkpointing="full", sequence_length=1024),
    replace(SMALL, weights_dtype="float32", gradient_accumulation_steps=2),
]


@pytest.mark.parametrize("settings", CASES)
@pytest.mark.parametrize("config", [tiny.LLAMA, tiny.QWEN3_MOE])
def test_the_extension_is_exact(config: dict[str, Any], settings: TraceSettings) -> None:
    config = {**config, "num_hidden_layers": DEEP}
    full = trace_step(config, settings)
    shallow, deep = (trace_step(config, replace(settings, layers_override=layers)) for layers in (4, 5))
    extended = extend(shallow, deep, DEEP)
    assert extended.moments == full.moments
    assert extended.peak.bytes == full.peak_bytes
    assert extended.peak.by_term == full.bytes_by_term_at_peak


def test_depths_that_the_period_does_not_reach_are_refused() -> None:
    config = {**tiny.LLAMA, "num_hidden_layers": 4}
    shallow, deep = (trace_step(config, replace(SMALL, layers_override=layers)) for layers in (2, 4))
    with pytest.raises(ValueError, match="can't be reached"):
        extend(shallow, deep, 5)
    with pytest.raises(ValueError, match="can't be reached"):
        extend(deep, shallow, 8)
