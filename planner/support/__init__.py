"""Which software can run a plan on that hardware, from which version, with a source."""

from planner.support.attention import attention_kernel
from planner.support.matrix import Needs, runs_fused_loss, support_for, support_warnings, unsupported_reason
from planner.support.routes import (
    Avoided,
    MachineKind,
    Route,
    kind_of,
    machine_kinds,
    routes_for,
    software_to_avoid,
)
from planner.support.rows import SupportRow, all_rows, row, row_for

__all__ = [
    "Avoided",
    "MachineKind",
    "Needs",
    "Route",
    "SupportRow",
    "all_rows",
    "attention_kernel",
    "kind_of",
    "machine_kinds",
    "routes_for",
    "row",
    "row_for",
    "runs_fused_loss",
    "software_to_avoid",
    "support_for",
    "support_warnings",
    "unsupported_reason",
]
