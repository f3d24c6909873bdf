"""What a measuring job wrote, as a document of the corpus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from planner.contract import DeviceFigures, EstimateRequest, MachineRequest, ModelReference
from planner.corpus.document import Departure, MeasuredRun, Peak, PeakKind
from planner.hardware import Machine
from planner.hardware.devices import all_devices
from planner.hardware.profile import FLOPS_PER_TERAFLOP
from planner.measurement import Measurement
from planner.units import GB, GIB

KIND_OF_ROW: Final[dict[str, PeakKind]] = {
    "peak_allocated_bytes": "allocated",
    "peak_reserved_bytes": "reserved",
    "resident_peak_bytes": "resident",
}


def from_measurement(
    measurement: Measurement,
    *,
    document_id: str,
    publisher: str,
    date: str,
    machine: Machine,
    config: Mapping[str, Any] | None = None,
    stack: Mapping[str, str] | None = None,
) -> MeasuredRun:
    """The document of a measured plan, `pending` until somebody looked at it.

    Args:
        measurement: what the job wrote.
        document_id: the document's id, for example the job's.
        publisher: who measured; documents of one publisher count as one source.
        date: when, as people write it.
        machine: the machine that it ran on: where the request says this-machine, its figures are put in its place.
        config: the model's config.json; needed where the request names a model that other catalogues don't hold.
        stack: versions of the software.

    Raises:
        ValueError: another device than the plan's ran it, so that the figures are not of the plan's device.
    """
    if measurement.planned_device is not None:
        text = f"{measurement.device} ran a plan for {measurement.planned_device}: ask for this-machine instead"
        raise ValueError(text)
    request = measurement.request
    model = request.model if config is None else ModelReference(config=dict(config))
    return MeasuredRun(
        id=document_id,
        publisher=publisher,
        source=f"measured on {measurement.device} with {measurement.device_count} device(s)",
        date_or_commit=date,
        departure=_departure(request),
        request=EstimateRequest(model=model, machine=portable(request.machine, machine), run=request.run),
        outcome="completed" if measurement.out_of_memory is None else "out_of_memory",
        peaks=_peaks(measurement),
        tokens_per_second=_measured(measurement, "tokens_per_second"),
        stack=dict(stack or {}),
        note=_note(measurement),
    )


def portable(asked: MachineRequest, machine: Machine) -> MachineRequest:
    """The machine of a request in words that mean the same elsewhere: a catalogue's id, or the device's own figures."""
    if asked.device != "this-machine":
        return asked
    profile = machine.device
    known = any(one.id == profile.id for one in all_devices())
    memory = machine.memory_total_bytes / GIB
    return MachineRequest(
        device=profile.id if known and profile.kind != "cpu" else figures_of(machine),
        device_count=machine.device_count,
        device_memory_gib=memory if known and profile.kind != "cpu" else None,
        host_memory_gib=None if machine.host_memory_bytes is None else machine.host_memory_bytes / GIB,
    )


def figures_of(machine: Machine) -> DeviceFigures:
    """A device as the figures that describe it.

    Raises:
        ValueError: its memory bandwidth is not known.
    """
    device = machine.device
    if device.memory_bandwidth_bytes_per_second is None:
        raise ValueError(f"the memory bandwidth of {device.name} is not known, so that no figures describe it")

    def tflops(dtype: str) -> float | None:
        peak = device.peak_flops.get(dtype)
        return None if peak is None else peak / FLOPS_PER_TERAFLOP

    return DeviceFigures(
        name=device.name,
        vendor=device.vendor,
        kind=device.kind,
        memory_gib=machine.memory_total_bytes / GIB,
        memory_bandwidth_gb_s=device.memory_bandwidth_bytes_per_second / GB,
        tflops_bfloat16=tflops("bfloat16"),
        tflops_float16=tflops("float16"),
        tflops_float32=tflops("float32"),
    )


def _departure(request: EstimateRequest) -> Departure:
    return "compiled" if request.run.compile else "none"


def _measured(measurement: Measurement, name: str) -> float | None:
    row = measurement.row(name)
    return None if row is None else row.measured


def _peaks(measurement: Measurement) -> list[Peak]:
    peaks: list[Peak] = []
    for name, kind in KIND_OF_ROW.items():
        measured = _measured(measurement, name)
        if measured:
            peaks.append(Peak(kind=kind, bytes=round(measured)))
    return peaks


def _note(measurement: Measurement) -> str:
    notes = [] if measurement.depth.is_whole else [f"extended from {measurement.depth.built} layers"]
    if measurement.out_of_memory is not None:
        notes.append(f"memory ran out while the job was in its phase {measurement.out_of_memory}")
    return "; ".join(notes)
