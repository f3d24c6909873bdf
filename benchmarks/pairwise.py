"""The closed form against a trace, over a pairwise sample: `python -m benchmarks.pairwise [--cases 60] [--markdown]`.

The knobs are family, method, checkpointing, loss, attention, optimizer, precision, micro-batches, batch and sequence.
Each case is the one of some random ones that brings most pairs of values that were not there yet. Models are published
configurations of 4 layers and a small vocabulary, so that a trace takes about a second and no term is hidden behind the
weights. The sample depends on the seed alone, and its first N cases are the same for every length: CI runs 60.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Any, Final

from planner.catalog.models import all_models
from planner.contract import EstimateRequest
from planner.errors import NotModelledError, PlanError
from planner.estimate import spec_of
from planner.evaluation import evaluate
from planner.hardware import resolve_machine
from planner.verify.coverage import NotVerifiable, buildable, settings_for
from planner.verify.trace import trace_step
from planner.verify.verification import comparable_peak, whole
from tests.planner.step.reduced import reduced_config

SEED: Final = 20261124
CASES: Final = 500
CANDIDATES: Final = 24
DEVICE: Final = "nvidia-b200-180gb"
LAYERS: Final = 4
STEPWISE: Final = frozenset({"mamba", "falcon_mamba"})
"""Without their own kernel these scan one position after the other: a trace of them takes minutes."""
VOCABULARY: Final = 2304
"""No family's width: logits are known by it."""
STATES: Final = frozenset({"weights", "adapters", "quantization_state", "optimizer_states"})

Case = Mapping[str, Any]
KNOBS: Final[Mapping[str, Sequence[Any]]] = {
    "method": ("full", "lora", "qlora", "dora", "freeze"),
    "activation_checkpointing": ("none", "full", "selective_op", "every second"),
    "loss": ("full_logits", "chunked", "fused_linear"),
    "attention": ("sdpa", "eager", "flash_attention"),
    "optimizer": ("adamw fused", "adamw foreach", "adamw for_loop", "adamw_8bit", "adafactor", "sgd_momentum", "lion"),
    "precision": ("bfloat16", "float32 autocast", "float32"),
    "gradient_accumulation_steps": (1, 2),
    "micro_batch_size": (1, 2, 4),
    "sequence_length": (128, 512, 1024),
}


@dataclass(frozen=True, slots=True)
class Compared:
    """One case: bytes of the closed form and of the trace by term, `peak` among them."""

    case: Case
    estimated: Mapping[str, int]
    traced: Mapping[str, int]

    def off(self, term: str) -> float:
        """The term's difference as a share of the traced peak."""
        return (self.estimated.get(term, 0) - self.traced.get(term, 0)) / self.traced["peak"]

    @property
    def off_in_flight(self) -> float:
        """The peak's difference as a share of what is left of it without weights and states."""
        standing = sum(self.traced.get(term, 0) for term in STATES)
        return (self.estimated["peak"] - self.traced["peak"]) / max(1, self.traced["peak"] - standing)


def families() -> list[str]:
    """The catalogue's model types, each once."""
    return sorted({str(model.config["model_type"]) for model in all_models()} - STEPWISE)


def sample(knobs: Mapping[str, Sequence[Any]], length: int, seed: int = SEED) -> list[Case]:
    """A greedy pairwise sample (AETG, Cohen et al. 1997)."""
    chosen = random.Random(seed)
    seen: set[tuple[tuple[str, Any], tuple[str, Any]]] = set()
    cases: list[Case] = []
    for _ in range(length):
        candidates = [{name: chosen.choice(values) for name, values in knobs.items()} for _ in range(CANDIDATES)]
        best = max(candidates, key=lambda case: len(set(combinations(case.items(), 2)) - seen))
        seen |= set(combinations(best.items(), 2))
        cases.append(best)
    return cases


def request_of(case: Case, config: Mapping[str, Any]) -> EstimateRequest:
    """The case in the contract's words."""
    optimizer, _, implementation = case["optimizer"].partition(" ")
    weights, _, autocast = case["precision"].partition(" ")
    checkpointing = case["activation_checkpointing"]
    run = {name: case[name] for name in KNOBS if name not in {"optimizer", "precision", "activation_checkpointing"}}
    run |= {"optimizer": optimizer, "weights_dtype": weights, "compute_dtype": "bfloat16" if autocast else weights}
    run |= {"activation_checkpointing": {"every_nth": 2} if checkpointing == "every second" else checkpointing}
    run |= {"optimizer_impl": implementation} if implementation else {}
    return EstimateRequest.model_validate({"model": {"config": config}, "machine": {"device": DEVICE}, "run": run})


def compare(case: Case) -> Compared:
    """The closed form and the trace of one case.

    Raises:
        PlanError, NotModelledError, NotVerifiable: one side refuses it.
    """
    config = reduced_config(case["family"], LAYERS) | {"vocab_size": VOCABULARY}
    request = request_of(case, config)
    evaluation = evaluate(request, spec_of(config, case["family"]), resolve_machine(request.machine))
    ledger = evaluation.ledger
    settings = settings_for(evaluation.plan, request.run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peak = comparable_peak(ledger, whole(trace_step(buildable(config), settings)))
    estimated = {term: size for term, size in ledger.terms.items() if term in peak.by_term}
    return Compared(case, estimated | {"peak": ledger.peak_allocated_bytes}, {**peak.by_term, "peak": peak.bytes})


def run(cases: Sequence[Case], seconds: float) -> tuple[list[Compared], Counter[str]]:
    """Compares until the time is over; what one side refuses is counted by its reason."""
    found: list[Compared] = []
    refused: Counter[str] = Counter()
    began = time.monotonic()
    for case in cases:
        if time.monotonic() - began > seconds:
            refused["the time was over"] += 1
            continue
        try:
            found.append(compare(case))
            print(f"{found[-1].off('peak'):+8.2%} {', '.join(map(str, case.values()))}", file=sys.stderr, flush=True)
        except (PlanError, NotModelledError, NotVerifiable, StopIteration) as error:
            refused[f"{type(error).__name__}: {str(error)[:80]}"] += 1
        except Exception as error:  # transformers' and PEFT's own refusals have no common class
            refused[f"library, {type(error).__name__}: {str(error).splitlines()[0][:80]}"] += 1
    return found, refused


def percentile(values: Sequence[float], share: float) -> float:
    """The value at that share of the sorted values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def summary(found: Sequence[Compared]) -> list[str]:
    """Median, 95th percentile and worst difference, of the peak and of each term."""
    rows = [row_of("peak, without weights and states", [one.off_in_flight for one in found])]
    terms = sorted({term for one in found for term in one.traced} - {"peak"})
    rows += [row_of(term, [one.off(term) for one in found]) for term in terms]
    head = ["| of the traced peak | median | 95th percentile | worst |", "|---|--:|--:|--:|"]
    return [*head, row_of("peak", [one.off("peak") for one in found]), *rows]


def row_of(name: str, shares: Sequence[float]) -> str:
    """A row of the table; the worst keeps its sign."""
    sizes = [abs(share) for share in shares]
    worst = max(shares, key=abs)
    return f"| {name} | {median(sizes):.2%} | {percentile(sizes, 0.95):.2%} | {worst:+.2%} |"


def worst_rows(found: Sequence[Compared], count: int) -> list[str]:
    """The cases that are furthest off, with the term that is."""
    ordered = sorted(found, key=lambda one: -abs(one.off("peak")))[:count]
    lines = ["| off | without states | term | off | case |", "|--:|--:|---|--:|---|"]
    for one in ordered:
        term = max((term for term in one.traced if term != "peak"), key=lambda term: abs(one.off(term)))
        said = ", ".join(str(value) for value in one.case.values())
        lines.append(f"| {one.off('peak'):+.2%} | {one.off_in_flight:+.2%} | {term} | {one.off(term):+.2%} | {said} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--seconds", type=float, default=900, help="the time after which no further case begins")
    parser.add_argument("--family", help="only this model type")
    parser.add_argument("--worst", type=int, default=20, help="rows of the worst cases")
    options = parser.parse_args(arguments)
    knobs = {"family": [options.family] if options.family else families(), **KNOBS}
    found, refused = run(sample(knobs, options.cases), options.seconds)
    print(f"{len(found)} cases compared, {sum(refused.values())} refused\n")
    if found:
        print("\n".join([*summary(found), "", *worst_rows(found, options.worst), ""]))
    print("\n".join(f"{count:>4} {reason}" for reason, count in refused.most_common()))


if __name__ == "__main__":
    main(sys.argv[1:])
