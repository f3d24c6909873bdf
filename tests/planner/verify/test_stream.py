"""The events of two shallow traces, extended, are those of the deep one: same order, storages, sizes, places."""

from dataclasses import replace
from typing import Any

import pytest

from planner.verify.allocator import replay
from planner.verify.extend import extend
from planner.verify.settings import TraceSettings
from planner.verify.stream import Middle, NotExtendable, Stream, TracedEvent, cut, extended_stream, placed, whole_stream
from planner.verify.trace import trace_step
from tests.planner.verify import tiny

pytestmark = pytest.mark.slow

DEEP = 8
SMALL = TraceSettings(sequence_length=64, micro_batch_size=2, lora_rank=4)
RUNS: dict[str, dict[str, Any]] = {
    "full": {},
    "fused": {"optimizer_impl": "fused"},
    "for_loop, checkpoints": {"optimizer_impl": "for_loop", "activation_checkpointing": "full"},
    "lora, checkpoints": {"method": "lora", "activation_checkpointing": "full"},
    "two micro-batches": {"method": "lora", "optimizer_impl": "for_loop", "gradient_accumulation_steps": 2},
    "autocast": {"weights_dtype": "float32", "gradient_accumulation_steps": 2},
    "qlora": {"method": "qlora"},
    "freeze": {"method": "freeze", "trainable_layers": 1},
    "every second": {"activation_checkpointing": "full", "checkpoint_every": 2},
    "selective": {"activation_checkpointing": "selective_op"},
    "adafactor": {"optimizer": "adafactor"},
    "muon": {"optimizer": "muon"},
    "8 bit": {"optimizer": "adamw_8bit"},
    "in backward": {"optimizer_in_backward": True},
    "fused loss": {"loss": "fused_linear"},
}
MODELS: dict[str, tuple[dict[str, Any], str, int, int]] = {
    "llama": (tiny.LLAMA, "num_hidden_layers", 2, 1),
    "gpt2": (tiny.GPT2, "n_layer", 2, 1),
    "gemma2": (tiny.GEMMA2, "num_hidden_layers", 4, 2),
    "gpt_oss": (tiny.GPT_OSS, "num_hidden_layers", 4, 2),
    "deepseek_v3": (tiny.DEEPSEEK_V3, "num_hidden_layers", 4, 1),
    "longcat_flash": (tiny.LONGCAT, "num_layers", 2, 1),
}
OTHERS = [(model, run) for model in list(MODELS)[1:] for run in ("lora, checkpoints",)]
CASES = [*(("llama", run) for run in RUNS), *OTHERS]


def as_read(stream: Stream) -> list[tuple[object, ...]]:
    """The events with storages numbered in the order of their births."""
    numbers: dict[int, int] = {}
    return [
        (e.bytes, numbers.setdefault(e.storage, len(numbers)), e.term, e.moment, e.module, e.op) for e in stream.events
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("model", "run"), CASES)
def test_the_extended_events_are_those_of_the_full_depth(model: str, run: str) -> None:
    given, depth_name, low, period = MODELS[model]
    config, settings = given | {depth_name: DEEP}, replace(SMALL, **RUNS[run])
    period = 2 if run == "every second" else period
    low = 4 if run == "every second" else low
    full = trace_step(config, settings)
    shallow, deep = (trace_step(config, replace(settings, layers_override=n)) for n in (low, low + period))
    stream = extended_stream(shallow, deep, DEEP)
    expected = whole_stream(full)
    assert as_read(stream) == as_read(expected)
    assert stream.second_step == expected.second_step
    assert stream.moment_peaks() == full.moments
    assert stream.moment_peaks().keys() == extend(shallow, deep, DEEP).moments.keys()
    for kind in ("native", "expandable_segments"):
        of_stream, of_trace = (
            replay(events.events, kind=kind, steady_from=events.second_step) for events in (stream, expected)
        )
        assert of_stream == of_trace
        assert of_stream.peak_tensor_bytes == full.peak_bytes


def event(layer: int | None, size: int = 512, record: int = 0) -> TracedEvent:
    return TracedEvent(record, size, 0, layer, in_loss=False)


def test_a_run_that_turns_round_in_the_middle_is_refused() -> None:
    with pytest.raises(NotExtendable, match="don't follow one another"):
        cut([event(0), event(1), event(0)], Middle(1, 1, 4))


def test_each_way_through_the_middle_is_a_section() -> None:
    sections = cut([event(layer) for layer in (0, 1, 2, 2, 1, 0)], Middle(1, 1, 4))
    assert [section.side for section in sections] == ["front", "middle", "back", "middle", "front"]
    assert [section.rising for section in sections if section.side == "middle"] == [True, False]


def test_a_stray_death_and_an_event_without_a_layer_count_where_the_run_is() -> None:
    rows = [event(1), event(None), event(0, -512), event(1), event(2)]
    assert [e.layer for e in placed(rows)] == [1, 1, 1, 1, 2]


def test_a_birth_moves_the_run() -> None:
    assert [e.layer for e in placed([event(1), event(0), event(1)])] == [1, 0, 1]
