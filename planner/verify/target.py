"""What the target device would run where the CPU would run something else.

Fake tensors live on a pretended CPU, because a CPU build of torch has no device guard for "cuda" and autograd needs
one. Three things then differ from CUDA and are put right here: the attention kernel, dropout, and autocast's list of
operations that go up to float32.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator
from typing import Any

import torch
import torch.nn.functional as F

from planner.verify.library import library

# transformers looks for "flash" in the name, and then makes no mask.
FLASH_NAME = "trainfit_flash"

# aten/src/ATen/autocast_mode.h, AT_FORALL_FP32 and AT_FORALL_FP32_SET_OPT_DTYPE: what CUDA's autocast computes in
# float32 and the CPU's does not. Only those that language models call are listed.
FLOAT32_ON_CUDA: tuple[tuple[Any, str], ...] = (
    *((F, name) for name in ("layer_norm", "group_norm", "softmax", "log_softmax", "softplus", "normalize")),
    *((torch, name) for name in ("softmax", "log_softmax", "pow", "rsqrt", "exp", "log", "sum", "cumsum", "prod")),
    *((torch.Tensor, name) for name in ("softmax", "pow", "__pow__", "rsqrt", "exp", "log", "sum", "cumsum", "prod")),
)


@contextlib.contextmanager
def cuda_target(fused_attention: bool) -> Generator[None]:
    """Puts CUDA's forms in the place of the functions, for forward and for what backward recomputes.

    A TorchFunctionMode can't do it: it is switched off inside `backward()`, where checkpointed blocks run again.
    """
    with contextlib.ExitStack() as undo:
        replace(undo, F, "dropout", cuda_dropout)
        replace(undo, F, "scaled_dot_product_attention", cuda_attention if fused_attention else math_attention)
        for owner, name in FLOAT32_ON_CUDA:
            replace(undo, owner, name, in_float32_under_autocast(getattr(owner, name)))
        yield


def replace(undo: contextlib.ExitStack, owner: Any, name: str, substitute: Callable[..., Any]) -> None:
    """Sets the attribute and remembers the original."""
    undo.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, substitute)


def in_float32_under_autocast(original: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its tensors up in float32 when autocast is on."""

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.is_autocast_enabled("cpu"):
            args = tuple(up_to_float32(value) for value in args)
        return original(*args, **kwargs)

    return call


def up_to_float32(value: Any) -> Any:
    """A 16-bit tensor in float32, anything else as it is."""
    if isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16):
        return value.float()
    return value


def cuda_dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, _inplace: bool = False) -> torch.Tensor:
    """CUDA's dropout keeps a boolean mask (aten/src/ATen/native/Dropout.cpp, `is_fused_kernel_acceptable`)."""
    if not training or p == 0.0:
        return input
    return torch.native_dropout(input, p, True)[0]


def cuda_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """The kernel that `scaled_dot_product_attention` picks on CUDA: flash, else memory-efficient, else math.

    q [b, a, s, d], k and v [b, k, s, d]. Source: aten/src/ATen/native/transformers/cuda/sdp_utils.cpp.
    """
    query, key, value = (lowered(tensor) for tensor in (query, key, value))
    if attn_mask is not None and attn_mask.is_floating_point():
        attn_mask = lowered(attn_mask)
    grouped = query.shape[1] != key.shape[1]
    # Without enable_gqa no fused kernel broadcasts heads (sdp_utils_cpp.h, `check_batch_size_and_num_heads_dense`).
    if flash_accepts(query, key, value, attn_mask) and (enable_gqa or not grouped):
        return flash(query, key, value, dropout_p, is_causal, scale)
    if not grouped and efficient_accepts(query):
        return efficient(query, key, value, attn_mask, dropout_p, is_causal, scale)
    return math_attention(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)


def math_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """The kernel of last resort, which keeps score matrices [b, a, s, s] and computes 16-bit inputs in float32."""
    query, key, value = (lowered(tensor) for tensor in (query, key, value))
    if dropout_p > 0.0:
        return math_with_dropout(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    return torch.ops.aten._scaled_dot_product_attention_math(
        query, key, value, attn_mask, dropout_p, is_causal, None, scale=scale, enable_gqa=enable_gqa
    )[0]


def math_with_dropout(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> torch.Tensor:
    """The same with CUDA's dropout, whose mask is boolean; inside the operation the CPU's would be taken.

    aten/src/ATen/native/transformers/attention.cpp, `_scaled_dot_product_attention_math`.
    """
    dtype, width, groups = query.dtype, query.shape[-1], query.shape[1] // key.shape[1]
    query, key, value = (tensor.float() for tensor in (query, key, value))
    if enable_gqa and groups > 1:
        key, value = (tensor.repeat_interleave(groups, 1) for tensor in (key, value))
    factor = (width**-0.5 if scale is None else scale) ** 0.5
    scores = torch.matmul(query * factor, (key * factor).transpose(-2, -1))
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attn_mask is not None:
        scores.add_(attn_mask)
    weights = cuda_dropout(torch.softmax(scores, -1), dropout_p)
    return torch.matmul(weights, value).to(dtype)


def lowered(tensor: torch.Tensor) -> torch.Tensor:
    """Attention is on autocast's 16-bit list."""
    if torch.is_autocast_enabled("cpu"):
        return tensor.to(torch.get_autocast_dtype("cpu"))
    return tensor


def flash_accepts(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> bool:
    """16-bit, no mask, one head width up to 256 (sdp_utils.cpp, `can_use_flash_attention`)."""
    one_width = query.shape[-1] == key.shape[-1] == value.shape[-1] <= 256
    return mask is None and one_width and query.element_size() == 2


def efficient_accepts(query: torch.Tensor) -> bool:
    """Rows of 16 bytes; grouped queries are refused by the caller (`can_use_mem_efficient_attention`)."""
    return query.shape[-1] * query.element_size() % 16 == 0


def flash(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout_p: float, is_causal: bool, scale: float | None
) -> torch.Tensor:
    """Keeps q, k, v, the output and one float32 log-sum-exp a row; widths go up to a multiple of 8."""
    width = query.shape[-1]
    scale = width**-0.5 if scale is None else scale
    if width % 8:
        query, key, value = (F.pad(tensor, (0, 8 - width % 8)) for tensor in (query, key, value))
    output = torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, dropout_p, is_causal, False, scale=scale
    )[0]
    return output[..., :width] if width % 8 else output


def efficient(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
) -> torch.Tensor:
    """The memory-efficient kernel; a mask is kept for backward.

    A boolean mask becomes an additive one in the query's dtype (aten/src/ATen/native/transformers/attention.cpp,
    `convert_boolean_attn_mask`), its last dimension aligned to 16 (`pad_bias`).
    """
    if mask is not None:
        mask = additive_mask(mask, query)
    return torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, mask, torch.is_grad_enabled(), dropout_p, is_causal, scale=scale
    )[0]


def additive_mask(mask: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """The mask as the kernel takes it, seen over all batches and heads."""
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(mask.logical_not(), float("-inf"))
    length = mask.shape[-1]
    if length % 16:
        mask = F.pad(mask, (0, 16 - length % 16))[..., :length]
    return mask.expand(query.shape[0], query.shape[1], mask.shape[-2], mask.shape[-1])


def register_flash_attention() -> None:
    """Puts flash attention, as the flash-attn package keeps memory, into transformers' tables."""
    transformers = library("transformers")
    mask = library("transformers.masking_utils").flash_attention_mask
    transformers.AttentionInterface.register(FLASH_NAME, flash_package_attention)
    transformers.AttentionMaskInterface.register(FLASH_NAME, mask)


@contextlib.contextmanager
def unpacked_rows() -> Generator[None]:
    """Answers what fake tensors can't: whether position ids restart inside a row.

    transformers/masking_utils.py `find_packed_sequence_indices` reads values to see that rows are not packed, and under
    fake tensors assumes that they are, which would materialise a [1, 1, s, s] mask that a real step doesn't have. Its
    own tensors are still made.
    """
    masking = library("transformers.masking_utils")
    original = masking.find_packed_sequence_indices

    def not_packed(position_ids: torch.Tensor) -> None:
        original(position_ids)

    with contextlib.ExitStack() as undo:
        replace(undo, masking, "find_packed_sequence_indices", not_packed)
        yield


def flash_package_attention(
    _module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Flash attention as transformers calls it; output [b, s, a, d].

    A narrower v is padded to q's width and the output cropped (transformers/integrations/flash_attention.py).
    """
    width = value.shape[-1]
    if width != query.shape[-1]:
        value = F.pad(value, [0, query.shape[-1] - width])
    output = flash(lowered(query), lowered(key), lowered(value), dropout, True, scaling)
    return output[..., :width].transpose(1, 2), None
