"""What CUDA kernels allocate inside one op, which no dispatcher sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def round_up(value: int, multiple: int) -> int:
    """`value` raised to the next multiple."""
    return -(-value // multiple) * multiple


def flash_backward_bytes(args: tuple[Any, ...]) -> int:
    """Scratch of FlashAttention-2's backward; q [b, a, s, d], k [b, k, s, d]; bytes.

    aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp, `mha_bwd`: softmax_d [b, a, s128] and dq_accum
    [b, s128, a, d32] in float32, where s128 is s rounded up to 128 and d32 is d rounded up to 32; with grouped
    queries also dk and dv expanded to all query heads, [b, s_k, a, d] in the inputs' dtype.
    """
    _, query, key = args[0], args[1], args[2]
    batch, heads, length, width = query.shape
    length_rounded, width_rounded = round_up(length, 128), round_up(width, 32)
    size = 4 * batch * heads * length_rounded * (1 + width_rounded)
    if key.shape[1] != heads:
        size += 2 * batch * heads * key.shape[2] * width * query.element_size()
    return size


def efficient_backward_bytes(args: tuple[Any, ...]) -> int:
    """Scratch of the memory-efficient backward; bytes.

    aten/src/ATen/native/transformers/cuda/attention_backward.cu, `_efficient_attention_backward`: delta [b, a, s] in
    float32, and for 16-bit inputs a float32 accumulator of dq (mem_eff_attention/kernel_backward.h, `workspace_gq`).
    """
    _, query = args[0], args[1]
    batch, heads, length, width = query.shape
    size = 4 * batch * heads * round_up(length, 32)
    if query.element_size() == 2:
        size += 4 * batch * heads * round_up(length, 64) * round_up(width, 64)
    return size


SCRATCH: dict[str, Callable[[tuple[Any, ...]], int]] = {
    "_scaled_dot_product_flash_attention_backward": flash_backward_bytes,
    "_scaled_dot_product_efficient_attention_backward": efficient_backward_bytes,
}


def scratch_bytes(op: str, args: tuple[Any, ...]) -> int:
    """Bytes taken and given back inside the op; 0 for ops that are not listed."""
    measure = SCRATCH.get(op)
    return measure(args) if measure else 0
