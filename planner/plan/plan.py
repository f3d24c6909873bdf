"""A plan: everything that the memory and throughput formulas need, with nothing left open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np

from planner.architecture.spec import ModelSpec
from planner.hardware import Machine
from planner.step.rules import StepRules
from planner.step.sizes import Quantity
from planner.support import Needs


@dataclass(slots=True)
class Points:
    """The sizes of a plan: ints, or int64 arrays of one length, one element for each of many plans that differ in them.

    `batch` is the micro-batch of a data rank, `sequence` its length in tokens, `rank` the adapters' (any without them).
    """

    batch: Quantity
    sequence: Quantity
    rank: Quantity


@dataclass(slots=True)
class Plan:
    """Everything that the memory and throughput formulas need; nothing is open.

    `assumed` maps each field of the request that was filled in to its value; `warnings` says what was ignored.
    """

    spec: ModelSpec
    machine: Machine
    rules: StepRules
    optimizer: str
    optimizer_impl: str
    optimizer_state_dtype: str
    master_weights: bool
    optimizer_in_backward: bool
    double_quant: bool
    sequence_length: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    rank: int
    data_parallel: int
    zero_stage: int
    allocator: Literal["native", "expandable_segments"]
    given_tokens: int | None
    examples: float | None
    attention: str
    kernel_reason: str
    expert_imbalance: float = 1.0
    assumed: dict[str, Any] = field(default_factory=dict[str, Any])
    warnings: tuple[str, ...] = ()

    def tokens_at(self, sequence: Quantity) -> Any:
        """Tokens to train on: as many as given, or the given examples times their length; None where nobody said."""
        if self.examples is None:
            return self.given_tokens
        tokens = cast("Any", np.round(self.examples * sequence))
        return tokens if np.ndim(sequence) else int(tokens)

    @property
    def tokens(self) -> int | None:
        """Tokens to train on, None where nobody said."""
        return self.tokens_at(self.sequence_length)

    @property
    def points(self) -> Points:
        """The plan's own sizes."""
        return Points(self.micro_batch_size, self.sequence_length, self.rank)

    @property
    def needs(self) -> Needs:
        """What the plan asks of its software."""
        rules = self.rules
        return Needs(
            method=rules.method,
            scheme=rules.scheme,
            optimizer=self.optimizer,
            framework=rules.framework,
            model_type=self.spec.model_type,
            attention=self.attention,
            loss=rules.loss,
            compute_dtype=rules.compute_dtype,
            data_parallel=self.data_parallel,
        )
