"""Two optimizer steps as transformers' Trainer runs them; the second is the steady one."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Generator
from typing import Any

import torch
from torch import nn

from planner.verify.library import library
from planner.verify.optimizers import make_optimizers
from planner.verify.settings import TraceSettings
from planner.verify.storages import StorageTracker


class TrainingStep:
    """Holds the model, its optimizers and the tracker, and runs steps."""

    def __init__(self, model: nn.Module, settings: TraceSettings, tracker: StorageTracker) -> None:
        self.model = model
        self.settings = settings
        self.tracker = tracker
        self.trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.forward = autocast_forward(model, settings) if settings.autocast else model
        prepare_checkpointing(model, settings)
        self.optimizers = make_optimizers(model, settings)

    def run(self) -> None:
        """One optimizer step over all its micro-batches.

        transformers/trainer.py `training_step`: `compute_loss` returns the loss alone, so the model's outputs die
        before backward; the batch stays alive in the training loop's list.
        """
        batches = [self.make_batch() for _ in range(self.settings.gradient_accumulation_steps)]
        for batch in batches:
            self.micro_batch(batch)
        self.tracker.moment = "optimizer_step"
        self.update()
        self.label_states()

    def make_batch(self) -> dict[str, torch.Tensor]:
        """Token ids and labels, int64 [b, s]; no attention mask (full rows, or packed)."""
        self.tracker.moment = "forward"
        shape = (self.settings.micro_batch_size, self.settings.sequence_length)
        batch = {"input_ids": torch.empty(shape, dtype=torch.int64), "labels": torch.empty(shape, dtype=torch.int64)}
        for tensor in batch.values():
            label(self.tracker, tensor, "temporaries")
        return batch

    def micro_batch(self, batch: dict[str, torch.Tensor]) -> None:
        """Forward, loss, backward of one micro-batch."""
        self.tracker.moment = "forward"
        loss = self.compute_loss(batch)
        loss = loss / self.settings.gradient_accumulation_steps
        self.tracker.moment = "backward"
        loss.backward()  # pyright: ignore[reportUnknownMemberType]
        del loss
        self.label_gradients()

    def compute_loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """transformers/trainer.py `compute_loss`: the tokens of all micro-batches are passed, so the loss is a sum."""
        tokens = torch.empty((), dtype=torch.int64)
        outputs = self.forward(**batch, num_items_in_batch=tokens)
        return outputs["loss"]

    def update(self) -> None:
        """Clip, step, drop the gradients (transformers/trainer.py `_inner_training_loop`, `zero_grad` sets to None)."""
        if self.settings.max_grad_norm > 0:
            nn.utils.clip_grad_norm_(self.trainable, self.settings.max_grad_norm)
        for optimizer in self.optimizers:
            optimizer.step()
        self.model.zero_grad()

    def label_gradients(self) -> None:
        """What hangs on a parameter after backward is a gradient."""
        for parameter in self.trainable:
            if parameter.grad is not None:
                label(self.tracker, parameter.grad, "gradients")

    def label_states(self) -> None:
        """What the optimizer keeps between steps is its state."""
        for optimizer in self.optimizers:
            for state in optimizer.state.values():
                for name, value in state.items():
                    if isinstance(value, torch.Tensor):
                        self.label_state(name, value)

    def label_state(self, name: str, value: torch.Tensor) -> None:
        """One state; AdamW's step counters stay in host memory unless fused (torch/optim/adamw.py)."""
        record = self.tracker.register(value)
        if record is None or record.label is not None:
            return
        if name == "step" and self.settings.target == "cuda" and self.settings.optimizer_impl != "fused":
            self.tracker.forget(record)
        else:
            record.label = "optimizer_states"


def label(tracker: StorageTracker, tensor: torch.Tensor, term: str) -> None:
    """Writes the ledger term on the tensor's storage, for the whole of its life."""
    record = tracker.register(tensor)
    if record is not None:
        record.label = term


def autocast_forward(model: nn.Module, settings: TraceSettings) -> Any:
    """accelerate/accelerator.py `prepare_model`: the forward runs under autocast and its 16-bit outputs are upcast."""
    context = torch.autocast("cpu", dtype=getattr(torch, settings.compute_dtype))
    upcast = library("accelerate.utils.operations").convert_outputs_to_fp32
    return upcast(context(model.forward))


def prepare_checkpointing(model: Any, settings: TraceSettings) -> None:
    """Checkpoints each block as transformers/trainer.py does: `activation_checkpointing_enable()`.

    Its default is not re-entrant, and it makes the embedding's output require a gradient, adapters or not
    (modeling_utils.py, `_activation_checkpointing_enable`).
    """
    if settings.activation_checkpointing == "full":
        model.activation_checkpointing_enable()


@contextlib.contextmanager
def no_garbage_collection() -> Generator[None]:
    """Deaths must come from reference counts alone, or two traces of one step would differ."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
