"""Which software can run a plan on that hardware, from which version, with a source."""

from planner.support.attention import attention_kernel
from planner.support.matrix import support_for, unsupported_reason
from planner.support.rows import SupportRow, all_rows, row

__all__ = ["SupportRow", "all_rows", "attention_kernel", "row", "support_for", "unsupported_reason"]
