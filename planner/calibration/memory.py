"""What a step holds: live tensors of the processor's allocator, the resident size of the process, bytes by term."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from planner.calibration.training import RealStep
from planner.verify.build import build_model as build_on_meta
from planner.verify.modules import block_list, blocks_path, module_paths
from planner.verify.settings import TraceSettings
from planner.verify.storages import StorageTracker
from planner.verify.timeline import Trace, running_total
from planner.verify.trace import finish_labels, register_parameters, vocabulary

STATUS: Final = Path("/proc/self/status")
CLEAR: Final = Path("/proc/self/clear_refs")


# -- the process ----------------------------------------------------------------------------------------------------


def status_bytes(name: str) -> int | None:
    """A size of this process as Linux shows it, for example VmRSS or VmHWM; None on other systems."""
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    line = next(line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def loaded_bytes(config: dict[str, Any], settings: TraceSettings) -> int | None:
    """Resident bytes once the libraries are loaded; None where the system doesn't say.

    transformers, PEFT and torch's optimizers load what they need when it is first used: a model of one layer is built
    on the meta device, and an optimizer updates one number, so that this is not taken for the plan's own memory.
    """
    build_on_meta(config, replace(settings, method="lora" if settings.method == "qlora" else settings.method,
                                  layers_override=1))  # fmt: skip
    number = nn.Parameter(torch.zeros(1))
    number.grad = torch.zeros(1)
    nn.utils.clip_grad_norm_([number], 1.0)
    optimizer: Any = torch.optim.AdamW([number], foreach=False)
    optimizer.step()
    return status_bytes("VmRSS")


def reset_resident_peak() -> bool:
    """Begin to look for the highest resident size (VmHWM) anew; False where the system doesn't let us.

    proc(5), /proc/pid/clear_refs: 5 resets the peak resident set size to the current one.
    """
    try:
        CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def resident_peak(run: Callable[[], None]) -> int | None:
    """The highest resident bytes while `run` runs; None where the system doesn't say."""
    if not reset_resident_peak():
        run()
        return None
    run()
    return status_bytes("VmHWM")


# -- the processor's allocator --------------------------------------------------------------------------------------


def standing_bytes(step: RealStep) -> int:
    """Tensors that live between steps: parameters, buffers, optimizer states, the batch; each storage once."""
    tensors = [*step.model.parameters(), *step.model.buffers(), step.targets]
    tensors += [tensor for batch in step.batches for tensor in batch.values()]
    for optimizer in step.optimizers:
        for state in optimizer.state.values():
            tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def allocations(run: Callable[[], None]) -> list[int]:
    """Bytes taken (above zero) and given back (below) by torch's CPU allocator, in order."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    results: Any = recorded.profiler
    events = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]


def highest_sum(changes: list[int]) -> int:
    """The highest running total."""
    total = highest = 0
    for change in changes:
        total += change
        highest = max(highest, total)
    return highest


def live_peak(step: RealStep) -> int:
    """The highest bytes of live tensors in a step on the processor, with what kernels take for themselves."""
    return standing_bytes(step) + highest_sum(allocations(step.run))


# -- by term --------------------------------------------------------------------------------------------------------


def terms_at_peak(step: RealStep) -> tuple[str, dict[str, int]]:
    """The moment of the highest live bytes and the bytes of each term then, of one real step.

    Each storage is followed from its birth to its death, as the verified tier does under fake tensors.
    """
    follower, clock = StorageTracker(rounding_bytes=1, scratch_of=None), step.tracker
    register_parameters(step.model, follower)
    gc.collect()
    gc.disable()
    step.tracker = follower
    try:
        step.label_states()
        for batch in step.batches:
            for tensor in batch.values():
                record = follower.register(tensor)
                if record is not None:
                    record.label = "temporaries"
        first = len(follower.deltas)
        with module_paths(step.model, follower), follower:
            step.run()
    finally:
        step.tracker = clock
        gc.enable()
    return _peak_of(step.model, step.settings, follower, first)


def _peak_of(
    model: nn.Module, settings: TraceSettings, follower: StorageTracker, first: int
) -> tuple[str, dict[str, int]]:
    finish_labels(follower.records, vocabulary(model), settings)
    trace = Trace(
        settings=settings,
        layers=len(block_list(model)),
        blocks_path=blocks_path(model),
        records=follower.records,
        instants=follower.instants,
        live_bytes=running_total(follower.deltas),
        first=first,
        last=len(follower.deltas),
        seconds=0.0,
    )
    with contextlib.suppress(ValueError):
        return trace.peak_moment, trace.bytes_by_term_at_peak
    return "", {}
