"""Two optimizer steps as transformers' Trainer runs them; the second is the steady one."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

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
        loss.backward()
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
        for parameter in self.trainable:
            if parameter.grad is not None:
                label(self.tracker, parameter.grad, "gradients")

    def label_states(self) -> None:
        """Optimizer states; AdamW's step counters stay in host memory unless fused (torch/optim/adamw.py)."""
        for optimizer in self.optimizers:
            for state in optimizer.state.values():
                for name, value in state.items():
                    if isinstance(value, torch.Tensor):
                        self.label_state(name, value)

    def label_state(self, name: str, value: torch.Tensor) -> None:
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
    from accelerate.utils.operations import convert_outputs_to_fp32

    context = torch.autocast("cpu", dtype=getattr(torch, settings.compute_dtype))
    return convert_outputs_to_fp32(context(model.forward))


def prepare_checkpointing(model: nn.Module, settings: TraceSettings) -> None:
    """transformers/trainer.py calls `activation_checkpointing_enable()`, whose default is not re-entrant and which makes the
    embedding's output require a gradient (modeling_utils.py)."""
    if settings.activation_checkpointing == "full":
        model.activation_checkpointing_enable()  # pyright: ignore


# -- optimizers ------------------------------------------------------------------------------------------------------


def make_optimizers(model: nn.Module, settings: TraceSettings) -> list[torch.optim.Optimizer]:
    """The optimizer over the Trainer's two groups: with weight decay, and without (biases and norms)."""
    groups = parameter_groups(model)
    if settings.optimizer == "muon":
        return muon_and_adamw(groups, settings)
    return [make_optimizer(groups, settings)]


def make_optimizer(groups: list[dict[str, Any]], settings: TraceSettings) -> torch.optim.Optimizer:
    flags = {"foreach": settings.optimizer_impl == "foreach", "fused": settings.optimizer_impl == "fused"}
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=1e-3, **flags)
    if settings.optimizer == "adafactor":
        from transformers.optimization import Adafactor

        return Adafactor(groups, lr=1e-3, scale_parameter=False, relative_step=False)
    momentum = 0.9 if settings.optimizer == "sgd_momentum" else 0.0
    return torch.optim.SGD(groups, lr=1e-3, momentum=momentum, **flags)


def muon_and_adamw(groups: list[dict[str, Any]], settings: TraceSettings) -> list[torch.optim.Optimizer]:
    """Muon takes the hidden matrices; embeddings, head, norms and stacked experts stay with AdamW."""
    matrices, rest = [], []
    for group in groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            hidden = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
            (matrices if hidden else rest).append(parameter)
    adamw = make_optimizer([{"params": rest}], dataclasses.replace(settings, optimizer="adamw"))
    return [torch.optim.Muon(matrices, lr=1e-3), adamw]


# transformers/trainer.py `get_decay_parameter_names`.
NO_DECAY = (r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)")


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    from transformers.trainer_pt_utils import get_parameter_names

    decayed = set(get_parameter_names(model, [nn.LayerNorm], list(NO_DECAY)))
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = []
    for wanted in (True, False):
        chosen = [(name, parameter) for name, parameter in named if (name in decayed) is wanted]
        if chosen:
            groups.append({"params": [pair[1] for pair in chosen], "names": [pair[0] for pair in chosen]})
    return groups


# -- hooks -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def module_paths(model: nn.Module, tracker: StorageTracker) -> Iterator[None]:
    """Tells the tracker which module runs; the language-model head opens the moment "loss"."""
    names = {id(module): name for name, module in model.named_modules()}
    head = output_head(model)

    def enter(module: nn.Module, _: Any) -> None:
        path = names.get(id(module))
        if path is not None:
            tracker.module_stack.append((path, torch.is_grad_enabled()))
            if module is head and tracker.moment == "forward":
                tracker.moment = "loss"

    def leave(module: nn.Module, _args: Any, _output: Any) -> None:
        if id(module) in names and tracker.module_stack:
            tracker.module_stack.pop()

    handles = [
        nn.modules.module.register_module_forward_pre_hook(enter),
        nn.modules.module.register_module_forward_hook(leave, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def output_head(model: nn.Module) -> Any:
    """The module that makes the logits; raises ValueError where the model has none."""
    head = model.get_output_embeddings()  # pyright: ignore
    if head is None:
        raise ValueError(f"{type(model).__name__} has no language-model head")
    return head


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Deaths must come from reference counts alone, or two traces of one step would differ."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
