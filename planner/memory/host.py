"""What the run needs of the host's memory and of its disk."""

from __future__ import annotations

from typing import Final

import numpy as np

from planner.architecture.count import by_component, checkpoint_total
from planner.architecture.spec import ModelSpec
from planner.memory.resident import Resident
from planner.memory.sharding import Sharding
from planner.plan import Plan
from planner.step.rules import BYTES
from planner.step.sizes import Quantity, ceiling_division
from planner.units import MIB

PYTHON_PROCESS_BYTES: Final = 240 * MIB
"""Resident size after importing torch and transformers, CPU build; own measurement."""
SAVED_CHECKPOINTS: Final = 1
PACKED_BYTES: Final = {"mxfp4": (17, 32), "int4": (9, 16), "int8": (1, 1)}
"""Bytes of one stored weight as a fraction. mxfp4: 32 weights in 16 bytes and a scale of one (OCP Microscaling Formats
1.0, section 5.1). int4: 32 weights in 16 bytes and a bfloat16 scale, the smallest group that checkpoints use."""


def host_terms(plan: Plan, held: Resident) -> dict[str, Quantity]:
    """Host bytes of all processes of the run, one a logical device; none of its own where host and device share memory.

    The interpreter with the imported libraries, paged optimizer states (bitsandbytes keeps them in managed memory),
    and the copy of what is saved: safetensors serialises tensors in host memory (adapters alone under LoRA).
    """
    processes = plan.machine.logical_devices
    shards = Sharding(plan.zero_stage, plan.data_parallel).weight_shards
    saved = (held.adapters if plan.rules.has_adapters else held.weights) * shards
    terms = {
        "processes": 0 if plan.machine.device.kind == "cpu" else processes * PYTHON_PROCESS_BYTES,
        "optimizer_states": held.host_optimizer_states * processes,
        "saving": 0 if plan.machine.shared_with_host else saved,
    }
    return {name: size for name, size in terms.items() if isinstance(size, np.ndarray) or size}


def disk_terms(plan: Plan, held: Resident) -> dict[str, Quantity]:
    """Disk bytes: the downloaded checkpoint in its stored dtype, and one saved checkpoint with its optimizer states."""
    sharding = Sharding(plan.zero_stage, plan.data_parallel)
    saved = (held.adapters if plan.rules.has_adapters else held.weights) * sharding.weight_shards
    on_one = held.optimizer_states + held.host_optimizer_states + held.master_weights
    states = on_one * sharding.optimizer_shards
    return {
        "downloaded_weights": _stored_bytes(plan.spec),
        "saved_checkpoint": SAVED_CHECKPOINTS * (saved + states),
    }


def _stored_bytes(spec: ModelSpec) -> int:
    """Bytes of the published checkpoint. A packed one holds its experts so, else its layers; the rest has 16 bits."""
    total = checkpoint_total(spec)
    width = PACKED_BYTES.get(spec.stored_dtype or "")
    if width is None:
        return total * BYTES.get(spec.stored_dtype or "", 2)
    counts = by_component(spec)
    packed = counts.get("experts", 0) or counts.get("attention", 0) + counts.get("mlp", 0)
    return 2 * (total - packed) + ceiling_division(packed * width[0], width[1])
