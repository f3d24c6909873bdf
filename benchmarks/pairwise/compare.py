"""One run by both sides: the closed form's terms beside the trace's."""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Final

import torch

from benchmarks.pairwise.cases import Case, planned
from planner.verify.coverage import buildable
from planner.verify.trace import trace_step
from planner.verify.verification import comparable_peak, whole

STATES: Final = frozenset({"weights", "adapters", "quantization_state", "optimizer_states"})


@dataclass(frozen=True, slots=True)
class Compared:
    """One case: bytes of the closed form and of the trace by term, `peak` among them; or why the library refused."""

    case: Case
    estimated: Mapping[str, int]
    traced: Mapping[str, int]
    seconds: float = 0.0
    refused: str = ""

    def off(self, term: str) -> float:
        """The term's difference as a share of the traced peak."""
        return (self.estimated.get(term, 0) - self.traced.get(term, 0)) / self.traced["peak"]

    @property
    def off_in_flight(self) -> float:
        """The peak's difference as a share of what is left of it without weights and states."""
        standing = sum(self.traced.get(term, 0) for term in STATES)
        return (self.estimated["peak"] - self.traced["peak"]) / max(1, self.traced["peak"] - standing)


def compare(case: Case) -> Compared:
    """Runs both sides; `seconds` are of the processor.

    Raises:
        ConfigError, PlanError, NotModelledError, NotVerifiable: one side refuses the case.
    """
    began = time.process_time()
    config, evaluation, settings = planned(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace = trace_step(buildable(config), settings)
    ledger = evaluation.ledger
    peak = comparable_peak(ledger, whole(trace))
    estimated = {term: size for term, size in ledger.terms.items() if term in peak.by_term}
    return Compared(
        case,
        estimated | {"peak": ledger.peak_allocated_bytes},
        {**peak.by_term, "peak": peak.bytes},
        time.process_time() - began,
    )


def compared_or_refused(case: Case) -> Compared:
    """The comparison, or the library's own refusal (transformers and PEFT have no common class of them)."""
    try:
        return compare(case)
    except Exception as error:
        lines = str(error).splitlines() or [""]
        return Compared(case, {}, {}, refused=f"{type(error).__name__}: {lines[0][:100]}")


def pool(processes: int) -> ProcessPoolExecutor:
    """Processes that import torch once and compute on one thread each."""
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=prepare)


def prepare() -> None:
    """One thread, no words from the libraries, and no collection of what the imports made, as in the fork server."""
    import transformers

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    logging: Any = transformers.logging
    logging.set_verbosity_error()
