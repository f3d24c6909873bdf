"""Two optimizer steps as transformers' Trainer runs them; the second is the steady one."""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Generator
from typing import Any, Protocol

import torch
from torch import nn

from planner.verify.blockwise import PAGED_PREFIX
from planner.verify.checkpointing import prepare_checkpointing
from planner.verify.library import library
from planner.verify.losses import with_loss
from planner.verify.optimizers import embedding_weights, make_optimizer, make_optimizers
from planner.verify.settings import TraceSettings
from planner.verify.storages import StorageRecord


class Follower(Protocol):
    """What follows a step: it is told which moment begins, and of storages that are more than what their op made."""

    @property
    def moment(self) -> str:
        """The moment that runs."""
        ...

    @moment.setter
    def moment(self, name: str) -> None: ...

    def register(self, tensor: torch.Tensor) -> StorageRecord | None:
        """The record of the tensor's storage, None where none is kept."""
        ...

    def forget(self, record: StorageRecord) -> None:
        """The storage is kept in host memory."""
        ...


class TrainingStep:
    """Holds the model, its optimizers and what follows them, and runs steps."""

    def __init__(self, model: nn.Module, settings: TraceSettings, tracker: Follower, device_type: str = "cpu") -> None:
        self.model = model
        self.settings = settings
        self.tracker = tracker
        self.trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.forward = forward_of(model, settings, device_type)
        prepare_checkpointing(model, settings)
        self.optimizers = [] if settings.optimizer_in_backward else self.make_optimizers()
        if settings.optimizer_in_backward:
            self.step_in_backward(embedding_weights(model))

    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers over the whole model."""
        return make_optimizers(self.model, self.settings)

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
        """Token ids and labels, int64 [b, s] (labels [b] for classes); no attention mask (full rows, or packed)."""
        self.tracker.moment = "forward"
        shape = (self.settings.micro_batch_size, self.settings.sequence_length)
        targets = shape[:1] if self.settings.objective == "sequence_classification" else shape
        batch = {**self.make_inputs(shape), "labels": torch.empty(targets, dtype=torch.int64)}
        for tensor in batch.values():
            label(self.tracker, tensor, "temporaries")
        return batch

    def make_inputs(self, shape: tuple[int, int]) -> dict[str, torch.Tensor]:
        """Token ids [b, s], or for a model that hears, the spectrogram [b, bins, 2 x positions] of one window."""
        config: Any = self.model.config
        if not hasattr(config, "max_source_positions"):
            return {"input_ids": torch.empty(shape, dtype=torch.int64)}
        frames = 2 * config.max_source_positions
        dtype = getattr(torch, self.settings.weights_dtype)
        return {"input_features": torch.empty((shape[0], config.num_mel_bins, frames), dtype=dtype)}

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
        if self.settings.max_grad_norm > 0 and not self.settings.optimizer_in_backward:
            nn.utils.clip_grad_norm_(self.trainable, self.settings.max_grad_norm)
        if self.settings.optimizer_in_backward:
            return
        for optimizer in self.optimizers:
            optimizer.step()
        self.model.zero_grad()

    def step_in_backward(self, tables: list[nn.Parameter]) -> None:
        """An optimizer a parameter, run as soon as its gradient is there, which then goes.

        torchtune training/memory.py, `register_optim_in_bwd_hooks`.
        """
        for parameter in self.trainable:
            optimizer = make_optimizer([[parameter]], self.settings, tables)
            self.optimizers.append(optimizer)
            hook = functools.partial(self.step_one, optimizer)
            parameter.register_post_accumulate_grad_hook(hook)  # pyright: ignore[reportUnknownMemberType]

    def step_one(self, optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> None:
        """The hook: the gradient is used and dropped."""
        if parameter.grad is not None:
            label(self.tracker, parameter.grad, "gradients")
        optimizer.step()
        optimizer.zero_grad()

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
        """One state; AdamW's step counters stay in host memory unless fused (torch/optim/adamw.py), paged ones too."""
        record = self.tracker.register(value)
        if record is None or record.label is not None:
            return
        counter = name == "step" and self.settings.optimizer_impl != "fused"
        if self.settings.target == "cuda" and (counter or name.startswith(PAGED_PREFIX)):
            self.tracker.forget(record)
        else:
            record.label = "optimizer_states"


def label(tracker: Follower, tensor: torch.Tensor, term: str) -> None:
    """Writes the ledger term on the tensor's storage, for the whole of its life."""
    record = tracker.register(tensor)
    if record is not None:
        record.label = term


def forward_of(model: nn.Module, settings: TraceSettings, device_type: str = "cpu") -> Any:
    """The model's call with its loss.

    accelerate/accelerator.py `prepare_model`: the forward runs under autocast and its 16-bit outputs are upcast.
    """
    if not settings.autocast:
        return model if settings.loss == "full_logits" else with_loss(model, settings)
    context = torch.autocast(device_type, dtype=getattr(torch, settings.compute_dtype))
    upcast = library("accelerate.utils.operations").convert_outputs_to_fp32
    return upcast(context(with_loss(model, settings)))


@contextlib.contextmanager
def no_garbage_collection() -> Generator[None]:
    """Deaths must come from reference counts alone, or two traces of one step would differ."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
