"""Real optimizer steps: the traced step of `planner.verify` on a real device, with a clock instead of a tracker."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import nn

from planner.calibration.build import BITSANDBYTES_OPTIMIZERS
from planner.calibration.device import Device, seconds_between
from planner.verify.library import library
from planner.verify.optimizers import LEARNING_RATE, embedding_weights, parameter_groups
from planner.verify.settings import TraceSettings
from planner.verify.step import Follower, TrainingStep
from planner.verify.storages import StorageRecord

PHASES: Final[tuple[str, ...]] = ("forward", "backward", "optimizer_step")


class PhaseClock:
    """Follows a step with a clock: the step says which moment begins, and the seconds of each are added up."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._marks: list[tuple[str, Any]] = []

    @property
    def moment(self) -> str:
        """The moment that runs."""
        return self._marks[-1][0] if self._marks else "load"

    @moment.setter
    def moment(self, name: str) -> None:
        self._marks.append((name, self._device.mark()))

    def register(self, tensor: torch.Tensor) -> StorageRecord | None:  # noqa: ARG002
        """A clock keeps no storages."""
        return None

    def forget(self, record: StorageRecord) -> None:
        """Never called: there are no records."""

    def begin(self) -> None:
        """Forget what was timed; work that was sent before is not counted."""
        self._device.wait()
        self._marks.clear()

    def end(self) -> dict[str, float]:
        """Seconds of each phase since `begin`, all work done."""
        last = self._device.mark()
        self._device.wait()
        seconds = dict.fromkeys(PHASES, 0.0)
        ends = [mark for _, mark in self._marks[1:]] + [last]
        for (name, begin), end in zip(self._marks, ends, strict=True):
            seconds[name] += seconds_between(begin, end)
        return seconds


class RealStep(TrainingStep):
    """Steps over one batch of random tokens that stays on the device, as a data loader that is never late gives them.

    With several ranks, gradients are averaged by DDP while the last micro-batch's backward runs.
    """

    def __init__(
        self, model: nn.Module, settings: TraceSettings, follower: Follower, device: Device, *, ranks: int = 1
    ) -> None:
        self.device = device
        super().__init__(model, settings, follower, device.type)
        self.batches = [self.make_batch() for _ in range(settings.gradient_accumulation_steps)]
        targets = sum(batch["labels"].numel() for batch in self.batches)
        self.targets = torch.tensor(targets, device=device.torch)
        self.parallel: Any = None
        if ranks > 1:
            self.parallel = data_parallel(model, self.forward, device, checkpointed=self.checkpointed)
            self.forward = self.parallel

    @property
    def checkpointed(self) -> bool:
        """Whether blocks are recomputed."""
        return self.settings.activation_checkpointing != "none"

    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        """Those of bitsandbytes are its own, where the tracer has a likeness."""
        if self.settings.optimizer in BITSANDBYTES_OPTIMIZERS:
            return [blockwise_optimizer(self.model, self.settings)]
        return super().make_optimizers()

    def make_batch(self) -> dict[str, torch.Tensor]:
        """Token ids and labels, int64 [b, s] (labels [b] for classes), drawn evenly from the vocabulary."""
        config: Any = self.model.config
        rows, length = self.settings.micro_batch_size, self.settings.sequence_length
        ids = torch.randint(config.get_text_config().vocab_size, (rows, length), device=self.device.torch)
        if self.settings.objective == "sequence_classification":
            return {"input_ids": ids, "labels": torch.randint(self.settings.num_labels, (rows,), device=ids.device)}
        return {"input_ids": ids, "labels": ids.clone()}

    def run(self) -> None:
        """One optimizer step over all its micro-batches."""
        for batch in self.batches[:-1]:
            with self.without_averaging():
                self.micro_batch(batch)
        self.micro_batch(self.batches[-1])
        self.tracker.moment = "optimizer_step"
        self.update()

    def without_averaging(self) -> contextlib.AbstractContextManager[Any]:
        """Gradients are averaged once a step (accelerate's `accumulate` uses DDP's `no_sync`)."""
        return contextlib.nullcontext() if self.parallel is None else self.parallel.no_sync()

    def compute_loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """transformers/trainer.py `compute_loss`: the tokens of all micro-batches are passed, so the loss is a sum."""
        return self.forward(**batch, num_items_in_batch=self.targets)["loss"]


def blockwise_optimizer(model: nn.Module, settings: TraceSettings) -> torch.optim.Optimizer:
    """bitsandbytes' optimizer as the Trainer makes it, embeddings in 32 bit (transformers/trainer_optimizer.py)."""
    bitsandbytes = library("bitsandbytes")
    makers = {
        "adamw_8bit": bitsandbytes.optim.AdamW8bit,
        "paged_adamw": bitsandbytes.optim.PagedAdamW32bit,
        "paged_adamw_8bit": bitsandbytes.optim.PagedAdamW8bit,
        "lion": bitsandbytes.optim.Lion32bit,
    }
    manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
    for table in embedding_weights(model):
        manager.override_config(table, "optim_bits", 32)
    groups = [{"params": [parameter for _, parameter in group]} for group in parameter_groups(model)]
    return makers[settings.optimizer](groups, lr=LEARNING_RATE)


class ForwardModule(nn.Module):
    """A model whose forward is the Trainer's, so that DDP sees its call."""

    def __init__(self, model: nn.Module, forward: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self._forward = forward

    def forward(self, **batch: torch.Tensor) -> Any:
        """The outputs with the loss."""
        return self._forward(**batch)


def data_parallel(model: nn.Module, forward: Callable[..., Any], device: Device, *, checkpointed: bool) -> Any:
    """The forward under DDP as the Trainer wraps it.

    transformers/trainer.py sets `ddp_find_unused_parameters` to whether nothing is checkpointed.
    """
    parallel = torch.nn.parallel.DistributedDataParallel
    devices = None if device.on_processor else [device.torch]
    return parallel(ForwardModule(model, forward), device_ids=devices, find_unused_parameters=not checkpointed)
