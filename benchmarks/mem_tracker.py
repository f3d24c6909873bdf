"""A verified trace beside torch's own MemTracker on one Llama-7B step of 1 x 4096: `python -m benchmarks.mem_tracker`.

MemTracker runs the full depth of 32 layers, as it has to; ours runs the shallow depths that the curve follows from.
Both sides trace two steps of the same model (bfloat16, AdamW) in this process and leave out what kernels take inside
an operation, which MemTracker does not see. Seconds are of the processor.
"""

from __future__ import annotations

import argparse
import gc
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from torch._subclasses.fake_tensor import FakeTensorMode

from planner.units import format_bytes
from planner.verify.build import build_model, give_fake_storages
from planner.verify.depth import depths
from planner.verify.extend import extend
from planner.verify.settings import TraceSettings
from planner.verify.step import TrainingStep, no_garbage_collection
from planner.verify.storages import StorageTracker
from planner.verify.target import unpacked_rows
from planner.verify.trace import trace_step

LLAMA_7B: Final[dict[str, Any]] = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096,
}  # fmt: skip
SETTINGS: Final = TraceSettings(
    sequence_length=4096, target="cpu", rounding_bytes=1, library_scratch=False, optimizer_impl="for_loop"
)
WARMING: Final = 2
"""Layers of a first trace of either side, which pays for what is imported on first use."""


def traced_peak(layers: int) -> int:
    """Ours: two shallow depths, extended."""
    chosen = depths([0] * layers)
    assert chosen is not None
    shallow = trace_step(LLAMA_7B, replace(SETTINGS, layers_override=chosen.shallow))
    if chosen.deep is None:
        return shallow.peak_bytes
    deep = trace_step(LLAMA_7B, replace(SETTINGS, layers_override=chosen.deep))
    return extend(shallow, deep, layers).peak.bytes


def tracker_peak(config: dict[str, Any], settings: TraceSettings) -> int:
    """MemTracker's, of the second step, in bytes."""
    from torch.distributed._tools.mem_tracker import MemTracker

    model = build_model(config, settings)
    with no_garbage_collection(), FakeTensorMode(), unpacked_rows():
        give_fake_storages(model)
        step = TrainingStep(model, settings, StorageTracker(1, None))
        tracker: Any = MemTracker()
        tracker.track_external(model, *step.optimizers)
        with tracker:
            step.run()
            tracker.reset_mod_stats()
            step.run()
    return max(device["Total"] for device in tracker.get_tracker_snapshot("peak").values())


def whole_peak(layers: int) -> int:
    """MemTracker's of the whole depth."""
    return tracker_peak(LLAMA_7B, replace(SETTINGS, layers_override=layers))


def timed(run: Callable[[int], int], layers: int) -> tuple[int, float]:
    """The peak and the processor's seconds, warm: what the imports made is not collected, as in the fork server."""
    run(WARMING)
    gc.collect()
    gc.freeze()
    began = time.process_time()
    return run(layers), time.process_time() - began


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints both sides and how they compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=LLAMA_7B["num_hidden_layers"])
    layers = parser.parse_args(arguments).layers
    warnings.simplefilter("ignore")
    ours, our_seconds = timed(traced_peak, layers)
    print(f"| trace, extended to {layers} layers | {format_bytes(ours)} | {our_seconds:.2f} s |", flush=True)
    theirs, their_seconds = timed(whole_peak, layers)
    print(f"| MemTracker, {layers} layers | {format_bytes(theirs)} | {their_seconds:.2f} s |")
    print(f"peak {ours / theirs - 1:+.4%}; ours takes 1/{their_seconds / our_seconds:.0f} of its time")


if __name__ == "__main__":
    main()
