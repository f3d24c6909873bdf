"""A claim, the plans that it is held against, and what they say: computed anew, never written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from planner.catalog.models import model
from planner.contract import Answer, DeviceMemory, EstimateRequest, Parameters
from planner.estimate import estimate
from planner.hardware import resolve_machine
from planner.units import format_bytes, format_seconds

Verdict = Literal["confirmed", "corrected", "holds when"]
TOKENS = 10_000_000
"""About 5,000 examples of 2,048 tokens: a small fine-tuning set, the same for every time that is given here."""


@dataclass(frozen=True, slots=True)
class Row:
    """One piece of evidence: what was asked, what came out, and the plan if there is one."""

    label: str
    text: str
    request: EstimateRequest | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim with its verdict, the reason in one sentence, and the evidence."""

    claim: Claim
    verdict: Verdict
    why: str
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Claim:
    """What is said, and the function that asks the engine about it."""

    id: str
    text: str
    judge: Callable[[], tuple[Verdict, str, Sequence[Row]]]


def judged(claim: Claim) -> Judged:
    """The claim, asked now."""
    verdict, why, rows = claim.judge()
    return Judged(claim, verdict, why, rows)


@dataclass(frozen=True, slots=True)
class Asked:
    """A plan with its answer."""

    label: str
    request: EstimateRequest
    answer: Answer

    @property
    def fits(self) -> bool:
        """Whether the verdict is a yes."""
        return self.answer.verdict == "fits"

    @property
    def device(self) -> DeviceMemory:
        """The device's ledger; every plan asked here is modelled."""
        assert self.answer.memory is not None
        return self.answer.memory.device

    @property
    def parameters(self) -> Parameters:
        """The model's counts."""
        assert self.answer.parameters is not None
        return self.answer.parameters

    @property
    def bytes(self) -> int:
        """What the run needs at its highest moment."""
        return self.device.required_bytes

    @property
    def tokens_per_second(self) -> float:
        """Speed; every device asked here has rates."""
        assert self.answer.throughput is not None
        return self.answer.throughput.tokens_per_second

    @property
    def hours(self) -> float:
        """Hours for TOKENS."""
        return TOKENS / self.tokens_per_second / 3600

    @property
    def row(self) -> Row:
        """Memory, verdict and time in words."""
        words = {
            "fits": "fits",
            "tight": "is tight",
            "does_not_fit": "does not fit",
            "unsupported": "no software runs it there",
        }
        text = f"{words[self.answer.verdict]}: {format_bytes(self.bytes)} of {format_bytes(self.device.usable_bytes)}"
        return Row(self.label, f"{text} usable, {format_seconds(self.hours * 3600)} for 10 M tokens", self.request)


def ask(label: str, model_id: str, device: str, *, machine: Mapping[str, Any] | None = None, **run: Any) -> Asked:
    """One plan on a named device, 2,048 tokens a sequence unless the run says otherwise."""
    request = EstimateRequest.model_validate(
        {
            "model": {"id": model_id},
            "machine": {"device": device, "host_memory_gib": 64, **(machine or {})},
            "run": {"sequence_length": 2048, "tokens": TOKENS, **run},
        }
    )
    answer = estimate(request, config=model(model_id).config, machine=resolve_machine(request.machine), advice=False)
    return Asked(label, request, answer)
