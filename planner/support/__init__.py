"""Which software runs a plan on a device, from which version, and who says so."""

from planner.support.attention import attention_kernel
from planner.support.plan import support_for, support_warnings, unsupported_reason

__all__ = ["attention_kernel", "support_for", "support_warnings", "unsupported_reason"]
