"""Traces one real training step of the real model without memory."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from planner.verify.build import build_model, give_fake_storages
from planner.verify.checkpointing import scores_made_again
from planner.verify.experts import traceable_experts
from planner.verify.modules import block_list, blocks_path, module_paths, output_head
from planner.verify.phantoms import phantom_shares
from planner.verify.quantised import STATE_PREFIX
from planner.verify.settings import TraceSettings
from planner.verify.step import TrainingStep, label, no_garbage_collection
from planner.verify.storages import StorageRecord, StorageTracker
from planner.verify.target import cuda_target, register_flash_attention, unpacked_rows
from planner.verify.timeline import Trace, running_total


def trace_step(config: dict[str, Any], settings: TraceSettings) -> Trace:
    """Runs two optimizer steps of the model that `config` (a config.json) describes and reports the second.

    Raises what transformers raises for a config it can't build, and torch's errors for an op that fake tensors can't
    run.
    """
    started = time.perf_counter()
    register_flash_attention()
    model = build_model(config, settings)
    tracker = StorageTracker(settings.rounding_bytes, settings.target if settings.library_scratch else None)
    with no_garbage_collection(), FakeTensorMode():
        first, last = run_two_steps(model, settings, tracker)
    finish_labels(tracker.records, vocabulary(model), settings)
    return Trace(
        settings=settings,
        layers=len(block_list(model)),
        blocks_path=blocks_path(model),
        records=tracker.records,
        instants=tracker.instants,
        live_bytes=running_total(tracker.deltas),
        first=first,
        last=last,
        seconds=time.perf_counter() - started,
        phantom_shares=phantom_shares(model),
    )


def run_two_steps(model: nn.Module, settings: TraceSettings, tracker: StorageTracker) -> tuple[int, int]:
    """Returns the instants between which the second step lies."""
    give_fake_storages(model)
    register_parameters(model, tracker)
    target = cuda_target(settings.fused_attention) if settings.target == "cuda" else contextlib.nullcontext()
    step = TrainingStep(model, settings, tracker)
    ways = (
        scores_made_again(settings),
        module_paths(model, tracker),
        unpacked_rows(),
        traceable_experts(settings.expert_imbalance),
        target,
    )
    with contextlib.ExitStack() as stack:
        for way in (*ways, tracker):
            stack.enter_context(way)
        step.run()
        first = len(tracker.deltas)
        step.run()
        return first, len(tracker.deltas)


def register_parameters(model: nn.Module, tracker: StorageTracker) -> None:
    """Weights and adapters exist before anything else."""
    named = [*model.named_parameters(), *model.named_buffers()]
    for name, tensor in named:
        tracker.module_stack = [name.rpartition(".")[0]]
        label(tracker, tensor, resident_term(name))
        tracker.parameter_storages.add(tensor.untyped_storage()._cdata)  # pyright: ignore[reportPrivateUsage]
    tracker.module_stack = []


def resident_term(name: str) -> str:
    """PEFT's own parameters carry `lora_` or `modules_to_save` in their names; scales of a quantised base a prefix."""
    if "lora_" in name or "modules_to_save" in name:
        return "adapters"
    return "quantization_state" if STATE_PREFIX in name else "weights"


def vocabulary(model: nn.Module) -> int:
    """Rows of the head."""
    head = output_head(model)
    return next(module for module in head.modules() if isinstance(module, nn.Linear)).out_features


def finish_labels(records: list[StorageRecord], vocab_size: int, settings: TraceSettings) -> None:
    """Gives each unlabelled storage its term, now that its whole life is known."""
    for record in records:
        if record.label is None:
            record.label = term_by_life(record, vocab_size, settings)


def term_by_life(record: StorageRecord, vocab_size: int, settings: TraceSettings) -> str:
    """The contract's borders.

    Logits, their upcasts and gradients are known by their last dimension and moment; what forward (or the
    recomputed forward) made and backward still needed is an activation; a cast of a parameter, a backward node's
    product and what died where it was born are temporaries.
    """
    if is_logits(record, vocab_size, settings):
        return "logits_and_loss"
    if record.note or record.in_backward_node or record.moment not in ("forward", "loss", "backward"):
        return "temporaries"
    return "activations" if needed_by_backward(record) else "temporaries"


def needed_by_backward(record: StorageRecord) -> bool:
    """Made in forward and dead after it, or made by a recomputed forward and freed by a backward node."""
    if record.moment == "backward":
        return record.died_in_backward_node
    return record.death_moment not in ("forward", "loss")


def is_logits(record: StorageRecord, vocab_size: int, settings: TraceSettings) -> bool:
    """[.., V] with about one row a token (or fewer, where the loss works in chunks), outside the optimizer."""
    if record.moment not in ("loss", "backward") or not record.shape or record.shape[-1] != vocab_size:
        return False
    rows = 1
    for dimension in record.shape[:-1]:
        rows *= dimension
    if settings.loss != "full_logits" or settings.objective == "sequence_classification":
        return rows <= settings.tokens
    return settings.tokens - settings.micro_batch_size <= rows <= settings.tokens
