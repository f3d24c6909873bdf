"""Which software can run a plan on that hardware, from which version, with a source."""

from planner.support.attention import attention_kernel
from planner.support.matrix import Needs, runs_fused_loss, support_for, support_warnings, unsupported_reason
from planner.support.rows import SupportRow, all_rows, row

__all__ = [
    "Needs",
    "SupportRow",
    "all_rows",
    "attention_kernel",
    "row",
    "runs_fused_loss",
    "support_for",
    "support_warnings",
    "unsupported_reason",
]
