"""What data-parallel ranks send each other in one optimizer step."""

from __future__ import annotations

from typing import Any


def bytes_sent(
    *, gradient_bytes: Any, weight_bytes: Any, data_parallel: int, zero_stage: int, gradient_accumulation_steps: Any = 1
) -> Any:
    """Bytes that one rank sends in an optimizer step over a ring of `data_parallel` ranks.

    Stages 0 to 2 reduce the gradients once: an all-reduce, or a reduce-scatter and an all-gather of the updated
    weights, sends 2 (N-1)/N of them (Patarasu and Yuan 2009; ZeRO, arXiv 1910.02054, section 7.1). Stage 3 gathers the
    weights for forward and again for backward and reduce-scatters the gradients, in every micro-batch: (N-1)/N of
    2 weights + gradients, ZeRO's "3 psi" (section 7.2.2) when all weights are trained in one width.

    Args:
        gradient_bytes: gradients of all trained parameters of the whole model.
        weight_bytes: all weights as they are gathered; used by stage 3 only.
        data_parallel: N, the number of ranks.
        zero_stage: 0 to 3.
        gradient_accumulation_steps: micro-batches of an optimizer step. Ints, or int64 arrays as the two sizes.
    """
    others = data_parallel - 1
    if zero_stage == 3:
        return gradient_accumulation_steps * (2 * weight_bytes + gradient_bytes) * others // data_parallel
    return 2 * gradient_bytes * others // data_parallel
