"""What kernels allocate inside one op, which no dispatcher sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from planner.verify.settings import Target


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


CUDA_SCRATCH: dict[str, Callable[[tuple[Any, ...]], int]] = {
    "_scaled_dot_product_flash_attention_backward": flash_backward_bytes,
    "_scaled_dot_product_efficient_attention_backward": efficient_backward_bytes,
}
PROMOTING = frozenset({"add", "sub", "mul", "div", "where", "maximum", "minimum"})


def promotion_bytes(args: tuple[Any, ...], result: Any) -> int:
    """Copies that the CPU's TensorIterator makes of operands in another dtype than the result; bytes.

    aten/src/ATen/TensorIterator.cpp, `compute_types` (`promote_inputs_to_common_dtype`): on the CPU an operand is cast
    as a whole before the loop, on CUDA inside the kernel. Scalars are skipped.
    """
    operands = [value for value in args if isinstance(value, torch.Tensor) and value.dim() > 0]
    cast = [value for value in operands if value.dtype not in (result.dtype, torch.bool)]
    return sum(value.numel() * result.element_size() for value in cast)


def scratch_bytes(op: str, args: tuple[Any, ...], result: Any, target: Target) -> int:
    """Bytes taken and given back inside the op on the target; 0 for ops that aren't listed."""
    if target == "cpu":
        return promotion_bytes(args, result) if op in PROMOTING else 0
    measure = CUDA_SCRATCH.get(op)
    return measure(args) if measure else 0
