"""A measuring run: the user's very plan for a few steps, beside what was predicted of it."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import torch

from planner.calibration.build import build_model
from planner.calibration.device import Device
from planner.calibration.memory import live_peak, resident_peak, terms_at_peak
from planner.calibration.memory_errors import ran_out
from planner.calibration.steady import is_steady
from planner.calibration.training import PHASES, PhaseClock, RealStep
from planner.verify.coverage import buildable
from planner.verify.settings import TraceSettings

WARM_UP_STEPS: Final = 2
"""The first step makes the optimizer's states; the second is the first steady one, and its memory is the peak's."""
SHARE_FOR_STEPS: Final = 0.6
"""Of the time that a job may take, what measuring steps may take."""

Phase = Literal["build", "warm_up", "measure"]


class Reporter(Protocol):
    """Who hears how far a run is."""

    def phase(self, name: Phase, message: str = "") -> None:
        """Another phase begins."""
        ...

    def sample(self, number: int, of: int, seconds: float, tokens: int, device: Device) -> None:
        """A step was measured."""
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be measured: settings of one rank, on this device, with this many ranks beside it.

    `imported_bytes` is what the process held before it built anything; the resident peak is counted above it. Without
    `weighs`, only time is taken.
    """

    config: Mapping[str, Any]
    settings: TraceSettings
    device: Device
    steps: int
    seconds: float
    ranks: int = 1
    seed: int = 0
    imported_bytes: int | None = None
    weighs: bool = True


@dataclass(slots=True)
class Taken:
    """What was measured of one build: seconds of each step and phase, bytes at the peak."""

    step_seconds: list[float] = field(default_factory=list[float])
    phase_seconds: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    parameters: int = 0
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    resident_bytes: int | None = None
    peak_moment: str = ""
    terms: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def phases(self) -> dict[str, float]:
        """The median seconds of each phase."""
        return {name: statistics.median(step[name] for step in self.phase_seconds) for name in PHASES}

    @property
    def undisturbed_phases(self) -> dict[str, float]:
        """The lower quartile of the seconds of each phase: other work on the machine only ever adds time."""
        return {name: _lower_quartile([step[name] for step in self.phase_seconds]) for name in PHASES}


def _lower_quartile(samples: list[float]) -> float:
    return samples[0] if len(samples) == 1 else statistics.quantiles(samples, n=4, method="inclusive")[0]


class OutOfMemory(Exception):
    """Memory ran out, in this phase of the run; `taken` is what was measured before."""

    def __init__(self, kind: Literal["oom_device", "oom_host"], phase: str, taken: Taken, detail: str) -> None:
        self.kind: Literal["oom_device", "oom_host"] = kind
        self.phase = phase
        self.taken = taken
        super().__init__(detail)


def take(task: Task, reporter: Reporter) -> Taken:
    """Builds, warms up and measures.

    Raises:
        OutOfMemory: which is a finding, too.
    """
    run = _Run(task, reporter)
    try:
        run.all()
    except Exception as error:
        kind = ran_out(error)
        if kind is None:
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise OutOfMemory(kind, run.phase, run.taken, lines[0][:300]) from None
    return run.taken


class _Run:
    """One build and its steps."""

    def __init__(self, task: Task, reporter: Reporter) -> None:
        self.task = task
        self.reporter = reporter
        self.taken = Taken()
        self.phase: Phase = "build"
        self.clock = PhaseClock(task.device)

    def all(self) -> None:
        """Every phase; memory is looked at in steps of their own, so that looking disturbs no timing."""
        self.enter("build")
        torch.manual_seed(self.task.seed)  # pyright: ignore[reportUnknownMemberType]
        model = build_model(buildable(self.task.config), self.task.settings, self.task.device)
        self.taken.parameters = sum(parameter.numel() for parameter in model.parameters())
        step = RealStep(model, self.task.settings, self.clock, self.task.device, ranks=self.task.ranks)
        self.enter("warm_up")
        resident = self.warm_up(step)
        if resident is not None and self.task.imported_bytes is not None:
            self.taken.resident_bytes = resident - self.task.imported_bytes
        self.enter("measure")
        gc.collect()
        time_steps(step, self.clock, self.task, self.taken, self.reporter)
        if self.task.weighs:
            self.weigh(step)

    def enter(self, phase: Phase) -> None:
        """Say so, and remember for the case that memory runs out."""
        self.phase = phase
        self.reporter.phase(phase)

    def warm_up(self, step: RealStep) -> int | None:
        """The first steps; the resident peak of the last, which is a steady one."""
        for _ in range(WARM_UP_STEPS - 1):
            step.run()
        self.task.device.wait()
        self.task.device.reset_peak()
        resident = resident_peak(step.run)
        self.task.device.wait()
        peak = self.task.device.peak()
        if peak is not None:
            self.taken.allocated_bytes, self.taken.reserved_bytes = peak.allocated_bytes, peak.reserved_bytes
        return resident

    def weigh(self, step: RealStep) -> None:
        """Two more steps: one to count live bytes, one to follow each storage."""
        if self.task.device.on_processor:
            self.taken.allocated_bytes = live_peak(step)
        self.taken.peak_moment, self.taken.terms = terms_at_peak(step)


def time_steps(step: RealStep, clock: PhaseClock, task: Task, taken: Taken, reporter: Reporter | None) -> None:
    """Step after step until the median is known, or the steps or the time are used up."""
    tokens = task.settings.tokens * task.settings.gradient_accumulation_steps * task.ranks
    ends = time.perf_counter() + task.seconds * SHARE_FOR_STEPS
    samples = taken.step_seconds
    while len(samples) < task.steps and not _agreed(task, is_steady(samples) or _is_late(samples, ends)):
        clock.begin()
        began = task.device.now()
        step.run()
        phases = clock.end()
        samples.append(task.device.now() - began)
        taken.phase_seconds.append(phases)
        if reporter is not None:
            reporter.sample(len(samples), task.steps, samples[-1], tokens, task.device)


def _agreed(task: Task, done: bool) -> bool:
    """Whether all ranks stop here: the first rank decides, since each step needs every one of them."""
    if task.ranks == 1:
        return done
    decision = torch.tensor(int(done), device=task.device.torch)
    torch.distributed.broadcast(decision, 0)
    return bool(decision.item())


def _is_late(samples: list[float], ends: float) -> bool:
    return bool(samples) and time.perf_counter() + samples[-1] > ends
