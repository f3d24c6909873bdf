"""Partial rows: what was measured must lie between the least and the largest prediction over what is unknown.

Such a row leaves a setting open, so that nothing can be compared; but if no value of that setting gives as much, or as
little, as was measured, a rule is wrong. Every value that trainers offer is tried, all combinations of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from pydantic import ValidationError

from planner.accuracy.prediction import Prediction, predict
from planner.contract import EstimateRequest
from planner.corpus import MeasuredRun
from planner.interval import REQUIRED, factors_of

CHOICES: Final[dict[str, tuple[Any, ...]]] = {
    "run.activation_checkpointing": ("none", "selective_op", "full"),
    "run.attention": ("eager", "sdpa", "flash_attention"),
    "run.compute_dtype": ("bfloat16", "float32"),
    "run.gradient_accumulation_steps": (1, 2),
    "run.lora.target_modules": (["q_proj", "v_proj"], "all-linear"),
    "run.micro_batch_size": (1, 2, 4, 8, 16, 32),
    "run.optimizer": ("sgd", "adafactor", "adamw_8bit", "paged_adamw", "adamw"),
    "run.optimizer_impl": ("fused", "foreach"),
    "run.parallelism.zero_stage": (0, 1, 2, 3),
    "run.sequence_length": (512, 1024, 2048, 4096, 8192),
    "machine.device_count": (1, 2, 4, 8, 16, 32, 64),
}
"""What an unknown setting may be. A third micro-batch adds nothing to a second."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One measured peak with the least and the largest prediction of it; `tried` plans gave them."""

    run: MeasuredRun
    kind: str
    measured: int
    least: int
    largest: int
    tried: int
    device_class: str

    @property
    def is_between(self) -> bool:
        """Whether some setting gives what was measured, a row's own `bound` taken for the side that it leaves open."""
        return self._holds(self.least, self.largest)

    @property
    def is_in_the_interval(self) -> bool:
        """The same, with the interval around both ends."""
        factors = factors_of(REQUIRED, self.device_class)
        return self._holds(factors.around(self.least)[0], factors.around(self.largest)[1])

    def _holds(self, least: int, largest: int) -> bool:
        at_least, at_most = self.run.bound == "at_least", self.run.bound == "at_most"
        return (at_least or least <= self.measured) and (at_most or self.measured <= largest)


def bounds_of(found: Iterable[Prediction]) -> list[Bound]:
    """The bounds on every peak of a partial row of which some setting is modelled."""
    partial = [one.run for one in found if one.run.completeness == "partial" and one.run.peaks]
    return [bound for run in partial for bound in _bounds(run)]


def _bounds(run: MeasuredRun) -> Iterator[Bound]:
    modelled = [one for one in map(predict, _variants(run)) if one.memory is not None]
    for peak in run.peaks:
        sizes = [size for one in modelled if (size := one.bytes_of(peak.kind))]
        if sizes:
            yield Bound(run, peak.kind, peak.bytes, min(sizes), max(sizes), len(sizes), modelled[0].device_class)


def _variants(run: MeasuredRun) -> Iterator[MeasuredRun]:
    """The run with every combination of values in the places that are unknown."""
    for values in product(*(CHOICES[field] for field in run.unknown)):
        request = run.request.model_dump(mode="json")
        for field, value in zip(run.unknown, values, strict=True):
            _put(request, field.split("."), value)
        try:
            yield run.model_copy(update={"request": EstimateRequest.model_validate(request)})
        except ValidationError:  # a combination that the contract refuses, such as ZeRO on one device
            continue


def _put(request: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a field; the number of data ranks follows that of devices."""
    *above, last = path
    place = request
    for name in above:
        place = place[name]
    place[last] = value
    if path == ["machine", "device_count"]:
        request["run"]["parallelism"]["data"] = None
