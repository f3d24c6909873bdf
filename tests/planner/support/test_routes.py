"""The ways to train by kind of machine: whole, sourced, and in agreement with the matrix."""

from __future__ import annotations

from typing import get_args

import pytest

from planner.contract import Method
from planner.hardware import all_devices, device, facts
from planner.support import MachineKind, kind_of, machine_kinds, routes_for, row_for, software_to_avoid

METHODS = set(get_args(Method))


def test_every_architecture_belongs_to_one_kind() -> None:
    known = [name for name in facts.architectures() if not name.startswith("unknown-")]
    belongs = [name for kind in machine_kinds() for name in kind.architectures]
    assert sorted(belongs) == sorted(known)


def test_every_route_names_methods_commands_and_a_source() -> None:
    for kind in machine_kinds():
        for route in kind.routes:
            assert set(route.methods) <= METHODS
            assert route.install
            assert route.support.source
            assert route.support.status not in {"no", "retired"}


@pytest.mark.parametrize("kind", machine_kinds(), ids=lambda kind: kind.id)
def test_a_route_with_qlora_stands_only_where_a_quantised_base_runs(kind: MachineKind) -> None:
    """MLX quantises by itself; everybody else takes bitsandbytes."""
    for architecture in kind.architectures:
        quantised = row_for("bitsandbytes 4-bit", architecture)
        offers = [route for route in routes_for(architecture, "qlora") if route.software != "mlx-lm"]
        if quantised is not None and quantised.features["bitsandbytes 4-bit"] == "no":
            assert not offers


@pytest.mark.parametrize("device_id", [item.id for item in all_devices() if item.architecture != "inf2"])
def test_something_trains_on_every_device(device_id: str) -> None:
    assert routes_for(device(device_id).architecture, "full")


def test_nothing_trains_on_inferentia_and_an_unknown_architecture_has_no_kind() -> None:
    kind = kind_of("inf2")
    assert kind is not None
    assert not kind.routes
    assert kind_of("unknown-cuda") is None
    assert routes_for("unknown-cuda", "full") == ()


def test_what_to_leave_alone_is_never_a_route() -> None:
    avoided = {item.support.software for item in software_to_avoid()}
    assert {"torchtune", "torch-directml"} <= avoided
    assert not avoided & {route.support.software for kind in machine_kinds() for route in kind.routes}


def test_answers_that_differ_are_told_apart() -> None:
    kind = kind_of("gfx90a")
    assert kind is not None
    assert kind.answers("fused attention") == {"no": ("gfx908",), "yes": ("gfx90a", "gfx942", "gfx950")}
    assert kind.answers("PyTorch") == {"yes": kind.architectures}
