"""What a running job says on its standard output, one JSON object a line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from app.jobs.spec import JobEventDocument, LogEvent, Phase, PhaseEvent, SampleEvent

if TYPE_CHECKING:
    from planner.calibration.device import Device


class Events:
    """Writes events; a rank other than the first says nothing."""

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent

    def send(self, event: JobEventDocument) -> None:
        if not self._silent:
            sys.stdout.write(event.model_dump_json() + "\n")
            sys.stdout.flush()

    def log(self, message: str) -> None:
        self.send(LogEvent(message=message))

    def phase(self, name: Phase, message: str = "") -> None:
        self.send(PhaseEvent(phase=name, message=message))

    def point(self, number: int, of: int, seconds: float, label: str) -> None:
        """One measured size or model of a calibration."""
        self.send(SampleEvent(step=number, of=of, seconds=seconds, label=label))

    def sample(self, number: int, of: int, seconds: float, tokens: int, device: Device) -> None:
        """One measured step, with what the device's allocator holds."""
        peak = device.peak()
        self.send(
            SampleEvent(
                step=number,
                of=of,
                seconds=seconds,
                tokens_per_second=tokens / seconds,
                allocated_bytes=None if peak is None else peak.allocated_bytes,
                reserved_bytes=None if peak is None else peak.reserved_bytes,
            )
        )
