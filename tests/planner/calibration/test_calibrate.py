"""A whole calibration of this processor, with few sizes and tiny models."""

from __future__ import annotations

import pytest

from app.detect import detect, to_machines
from planner.calibration import calibrate as job
from planner.calibration import micro
from planner.calibration.calibrate import Identity, calibrate
from planner.calibration.device import Device
from planner.calibration.models import Example, examples
from planner.hardware import fingerprint_of
from planner.hardware.calibration import Calibration

pytestmark = pytest.mark.slow


class Heard:
    def __init__(self) -> None:
        self.labels: list[str] = []

    def point(self, number: int, of: int, seconds: float, label: str) -> None:
        assert number >= 0
        assert of >= 0
        assert seconds >= 0
        self.labels.append(label)


def tiny(dtypes: tuple[str, ...]) -> list[Example]:
    """Three of the real plans, each a twentieth of its size."""
    shapes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 300, "head_dim": 16,
              "num_attention_heads": 4, "num_key_value_heads": 2, "moe_intermediate_size": 64}  # fmt: skip
    wanted = {
        "llama-small full float32 1 x 128",
        "llama-wide lora bfloat16 2 x 384",
        "qwen3-experts full float32 1 x 384",
    }
    return [
        Example(each.label, each.config | {name: shapes[name] for name in shapes if name in each.config},
                each.run | {"sequence_length": 32})
        for each in examples(dtypes) if each.label in wanted
    ]  # fmt: skip


def test_a_calibration_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro, "SIDES", ((64, 128),))
    monkeypatch.setattr(micro, "NARROW_SIDES", ((64, 16),))
    monkeypatch.setattr(micro, "ROWS", (32, 128))
    monkeypatch.setattr(micro, "ATTENTION", ((4, 16, 32),))
    monkeypatch.setattr(micro, "STREAM_ELEMENTS", (2**12, 2**16))
    monkeypatch.setattr(micro, "LOSSES", ((64, 300),))
    monkeypatch.setattr(micro, "TENSORS", ((4, 2**12), (2, 2**16)))
    monkeypatch.setattr(job, "examples", tiny)
    monkeypatch.setattr(job, "SECONDS_A_RUN", 0.5)
    machine = next(each for each in to_machines(detect()) if each.device.kind == "cpu")
    identity = Identity("an-id", "2026-11-24T12:00:00+00:00", machine.device.id, "cpu", fingerprint_of(machine), 1, {})
    heard = Heard()
    found = calibrate(identity, machine, Device("cpu", clock="processor"), heard)
    assert Calibration.model_validate_json(found.model_dump_json()).curves == found.curves
    kinds = {(curve.operation, curve.dtype) for curve in found.curves}
    assert {
        (name, dtype) for name in ("matmul", "attention", "optimizer") for dtype in ("float32", "bfloat16")
    } <= kinds
    assert len(heard.labels) == 2 + 3
    assert found.interval[0] < 1 < found.interval[1]
    assert all(rate > 0 for curve in found.curves for rate in curve.rates)
    # How near they are is the benchmark's to say: beside other work the clock of a step this small tells little.
    for run in found.runs:
        assert set(run.fitted) == set(run.measured), run.label
        assert all(seconds > 0 for seconds in (*run.fitted.values(), *run.measured.values())), run.label
