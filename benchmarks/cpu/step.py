"""Runs one case in this process and prints what it took, as JSON: `python -m benchmarks.cpu.step CASE [SECONDS]`.

SECONDS are spent on timing. One thread, so that processor time tells the speed even where other work shares the cores.

The second optimizer step is the steady one. Its resident peak is read without a profiler, the live tensors of a later,
equal step with one.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.cpu.cases import Case
from planner.calibration.memory import allocations, highest_sum, resident_peak, status_bytes

transformers: Any = importlib.import_module("transformers")
peft: Any = importlib.import_module("peft")
TIMED_SECONDS = 4.0
TIMED_STEPS = 7
MAXIMUM_NORM = 1.0  # the Trainer's default


def build(case: Case) -> Any:
    """The model with random weights, its adapters and its checkpoints, as transformers' Trainer sets it up."""
    values = {name: value for name, value in case.config.items() if name != "model_type"}
    config = transformers.AutoConfig.for_model(case.config["model_type"], **values)
    config.use_cache = False
    model: Any = transformers.AutoModelForCausalLM.from_config(
        config, dtype=getattr(torch, case.dtype), attn_implementation=case.attention
    )
    if case.method == "lora":
        model = peft.get_peft_model(model, peft.LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    if case.checkpointing == "full":
        model.gradient_checkpointing_enable()
    return model.train()


class Trainer:
    """Steps as transformers/trainer.py runs them: the outputs die before backward, gradients are dropped at the end."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.model = build(case)
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        choice: dict[str, Any] = {"fused": case.optimizer_impl == "fused", "foreach": case.optimizer_impl == "foreach"}
        self.optimizer: Any = torch.optim.AdamW(self.trained, **choice)
        vocabulary = case.config["vocab_size"]
        shape = (case.accumulation, case.batch, case.sequence)
        self.ids = torch.randint(0, vocabulary, shape)

    def step(self) -> None:
        """One optimizer step with all its micro-batches."""
        for ids in self.ids:
            loss = self.loss(ids)
            loss.backward()  # pyright: ignore[reportUnknownMemberType]
            del loss
        torch.nn.utils.clip_grad_norm_(self.trained, MAXIMUM_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def loss(self, ids: torch.Tensor) -> torch.Tensor:
        """The loss of a micro-batch; labels are the ids."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.case.autocast):
            outputs = self.model(input_ids=ids, labels=ids, num_items_in_batch=ids.numel() * self.case.accumulation)
        return outputs["loss"]

    def standing(self) -> list[torch.Tensor]:
        """Tensors that live between steps: parameters, buffers, optimizer states, the batch."""
        tensors = [*self.model.parameters(), *self.model.buffers(), self.ids]
        for state in self.optimizer.state.values():
            tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
        return tensors

    def standing_bytes(self) -> int:
        """Their bytes, each storage once."""
        storages = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in self.standing()
        }
        return sum(storages.values())


def timed(run: Callable[[], None], seconds: float) -> tuple[list[float], list[float]]:
    """Seconds of a few steps: of the clock, and of the processor."""
    clock: list[float] = []
    processor: list[float] = []
    while len(clock) < TIMED_STEPS and sum(clock) < seconds:
        began, worked = time.perf_counter(), time.process_time()
        run()
        clock.append(time.perf_counter() - began)
        processor.append(time.process_time() - worked)
    return clock, processor


def measure(case: Case, seconds: float = TIMED_SECONDS) -> dict[str, Any]:
    """Everything about one case."""
    torch.set_num_threads(1)
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    imported = status_bytes("VmRSS")
    trainer = Trainer(case)
    trainer.step()
    resident = resident_peak(trainer.step)
    clock, processor = timed(trainer.step, seconds)
    standing = trainer.standing_bytes()
    live = standing + highest_sum(allocations(trainer.step))
    return {
        "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "imported_bytes": imported,
        "resident_peak_bytes": resident,
        "standing_bytes": standing,
        "live_peak_bytes": live,
        "clock_seconds": clock,
        "processor_seconds": processor,
    }


def main() -> None:
    """The command."""
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else TIMED_SECONDS
    print(json.dumps(measure(Case(**json.loads(sys.argv[1])), seconds)))


if __name__ == "__main__":
    main()
