"""Real steps of many families beside the trace and the closed form: `python -m benchmarks.cpu.families [WORD ...]`.

Each family x none and full checkpointing x full and LoRA x float32 and bfloat16, an optimizer step of AdamW on the CPU.
Measured are the events of torch's CPU allocator, as its profiler reports them: tensors, and beside them what kernels
take and give back inside one operation, which no tensor holds. That is told apart by following the same step's tensors.
"""

from __future__ import annotations

import gc
import itertools
import statistics
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from benchmarks.cpu.cases import SMALL_MODELS, Case
from benchmarks.cpu.predicted import predict
from benchmarks.cpu.step import Trainer
from planner.calibration.memory import allocations, highest_sum
from planner.verify.coverage import buildable
from planner.verify.settings import TraceSettings
from planner.verify.storages import StorageTracker
from planner.verify.trace import trace_step

KIB: Final = 1024
HEAD: Final = (
    "| family | run | live, KiB | scratch inside ops, KiB | tensors, KiB | trace off | closed form off |\n"
    "|---|---|--:|--:|--:|--:|--:|"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One step: measured allocator bytes and their tensors, and what the trace and the closed form say."""

    case: Case
    live_bytes: int
    tensor_bytes: int
    traced_bytes: int
    estimated_bytes: int

    @property
    def scratch_bytes(self) -> int:
        """What no tensor holds."""
        return self.live_bytes - self.tensor_bytes

    @property
    def trace_off(self) -> float:
        """The trace's tensors against the measured ones."""
        return self.traced_bytes / self.tensor_bytes - 1

    @property
    def estimate_off(self) -> float:
        """The closed form, which counts some scratch, against all that was measured."""
        return self.estimated_bytes / self.live_bytes - 1


def cases() -> list[Case]:
    """All of them, family by family."""
    return [
        Case(f"small-{family}", method, checkpointing, dtype, batch=2, sequence=256, attention=kernel(family))
        for family, method, checkpointing, dtype in itertools.product(
            SMALL_MODELS, ("full", "lora"), ("none", "full"), ("float32", "bfloat16")
        )
    ]


def kernel(family: str) -> str:
    """Two classes have no sdpa."""
    return "eager" if family in {"gemma2", "bloom"} else "sdpa"


def row_of(case: Case) -> Row:
    """Runs the step, traces it and asks the planner."""
    live, tensors = measured(case)
    return Row(case, live, tensors, traced(case), predict(case).live_bytes)


def measured(case: Case) -> tuple[int, int]:
    """The highest bytes of the allocator's events, and of tensors alone, in a steady step."""
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(case)
        trainer.step()
        gc.collect()
        live = trainer.standing_bytes() + highest_sum(allocations(trainer.step))
        return live, tensors_of(trainer)


def tensors_of(trainer: Trainer) -> int:
    """The highest bytes of the step's tensors, each storage followed from its birth to its death."""
    gc.collect()
    gc.disable()
    try:
        follower = StorageTracker(rounding_bytes=1, scratch_of=None)
        for tensor in trainer.standing():
            follower.register(tensor)
        with follower:
            trainer.step()
    finally:
        gc.enable()
    return max(itertools.accumulate(follower.deltas))


def traced(case: Case) -> int:
    """The peak of the step's tensors under fake tensors."""
    settings = TraceSettings(
        method=case.method,  # pyright: ignore[reportArgumentType]
        weights_dtype=case.dtype,
        compute_dtype=case.dtype,
        activation_checkpointing=case.checkpointing,  # pyright: ignore[reportArgumentType]
        micro_batch_size=case.batch,
        sequence_length=case.sequence,
        attention=case.attention,  # pyright: ignore[reportArgumentType]
        optimizer_impl="for_loop",
        target="cpu",
        rounding_bytes=1,
        library_scratch=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return trace_step(buildable(case.config), settings).peak_bytes


def line(row: Row) -> str:
    """One line of the table."""
    return (
        f"| {row.case.config['model_type']} | {row.case.label} | {row.live_bytes / KIB:,.0f} "
        f"| {row.scratch_bytes / KIB:,.1f} | {row.tensor_bytes / KIB:,.0f} "
        f"| {row.trace_off:+.3%} | {row.estimate_off:+.3%} |"
    )


def summary(rows: Sequence[Row]) -> str:
    """How many are how near."""
    return "\n".join(
        (
            f"n = {len(rows)}, {len({row.case.model for row in rows})} families",
            spread("trace", [row.trace_off for row in rows]),
            spread("closed form", [row.estimate_off for row in rows]),
        )
    )


def spread(name: str, shares: Sequence[float]) -> str:
    """The middle, the ends, and how many lie within 0.1 %."""
    sizes = [abs(share) for share in shares]
    within = sum(size <= 0.001 for size in sizes)
    return (
        f"{name}: {within} of {len(sizes)} within 0.1 %; median size {statistics.median(sizes):.3%}, "
        f"{min(shares):+.3%} to {max(shares):+.3%}"
    )


def chosen(words: Iterable[str]) -> list[Case]:
    """Those whose model or label holds each word."""
    return [case for case in cases() if all(word in f"{case.model} {case.label}" for word in words)]


def main(words: Sequence[str]) -> None:
    """The command."""
    torch.set_num_threads(1)
    rows: list[Row] = []
    print(HEAD)
    for case in chosen(words):
        rows.append(row_of(case))
        print(line(rows[-1]), flush=True)
    print(summary(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
