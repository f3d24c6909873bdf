"""Routed experts whose code reads the routing: run with a stated load, as fake tensors have no values.

Most families go through transformers' grouped_mm, whose shapes don't depend on the routing. Two loop over the experts
that were hit; here the same loop runs with each expert's share of the tokens, the first one the busiest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F

from planner.verify.library import library
from planner.verify.target import replace

MOST_EXPERTS_ONE_BY_ONE = 256
GROUPED_EXPERTS = 64


@contextlib.contextmanager
def traceable_experts(imbalance: float = 1.0) -> Generator[None]:
    """Puts the forms with a stated load in place; `imbalance` is the busiest expert's rows over the mean."""
    dbrx = library("transformers.models.dbrx.modeling_dbrx")
    longcat = library("transformers.models.longcat_flash.modeling_longcat_flash")
    with contextlib.ExitStack() as undo:
        replace(undo, dbrx.DbrxExperts, "forward", with_load(dbrx_forward, imbalance))
        replace(undo, longcat.LongcatFlashExperts, "forward", with_load(longcat_forward, imbalance))
        replace(undo, F, "grouped_mm", any_dtype_grouped_mm(F.grouped_mm))
        yield


def with_load(forward: Callable[..., torch.Tensor], imbalance: float) -> Callable[..., torch.Tensor]:
    """A class's loop over experts as its method, with the load in the place of what the routing would say."""

    def call(self: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        slots, tokens = top_k_index.numel(), top_k_index.numel() // top_k_index.shape[-1]
        rows = rows_of_experts(slots, tokens, total_experts(self), imbalance)
        return forward(self, hidden_states, top_k_index, weights, rows)

    return call


def total_experts(module: Any) -> int:
    """Slots of the router, with the experts that compute nothing."""
    return getattr(module, "total_experts", None) or module.num_experts


def rows_of_experts(slots: int, tokens: int, experts: int, imbalance: float) -> list[int]:
    """Rows of each expert that has some, the busiest first: `imbalance` times the mean, at most every token.

    The others share evenly what it leaves of the `slots` token-expert pairs.
    """
    if imbalance == 1.0 or experts == 1:
        return balanced_rows(slots, experts)
    busiest = min(tokens, round(imbalance * slots / experts))
    return [busiest, *balanced_rows(slots - busiest, experts - 1)]


def balanced_rows(slots: int, experts: int) -> list[int]:
    """Rows of each expert when `slots` token-expert pairs are shared out evenly; experts without rows are left out."""
    each, more = divmod(slots, experts)
    rows = [each + 1] * more + [each] * (experts - more)
    return [count for count in rows if count]


def routed_indices(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where one expert's rows come from: the slot and the token of each."""
    return torch.empty(count, dtype=torch.int64), torch.empty(count, dtype=torch.int64)


def expert_groups(rows: list[int], border: int) -> Iterator[tuple[int, int, int]]:
    """(first expert, experts, rows of each): neighbours with as many rows, on one side of the border.

    Up to 256 experts go one by one, as in the library's loop. More go in groups of 64, as one batched product: as much
    is kept for backward, and what is in flight grows by 63 experts' shares (of LongCat-Flash's 768 a twelfth).
    """
    largest = 1 if len(rows) <= MOST_EXPERTS_ONE_BY_ONE else GROUPED_EXPERTS
    start = 0
    while start < len(rows):
        size = 1
        while size < largest and start + size < len(rows) and start + size != border:
            if rows[start + size] != rows[start]:
                break
            size += 1
        yield start, size, rows[start]
        start += size


def longcat_forward(
    self: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor, rows: list[int]
) -> torch.Tensor:
    """LongCat-Flash's loop (modeling_longcat_flash.py, `LongcatFlashExperts`); the last experts compute nothing."""
    final = torch.zeros_like(hidden_states)
    _mask = F.one_hot(top_k_index, num_classes=self.total_experts).permute(2, 1, 0)
    for start, size, count in expert_groups(rows, self.num_routed_experts):
        slot, token = routed_indices(size * count)
        current = hidden_states[token]
        if start < self.num_routed_experts:
            grouped = current.view(size, count, -1)
            gate_up = self.gate_up_proj[start : start + size].transpose(1, 2)
            gate, up = torch.bmm(grouped, gate_up).chunk(2, dim=-1)
            product = self.act_fn(gate) * up
            current = torch.bmm(product, self.down_proj[start : start + size].transpose(1, 2)).view(size * count, -1)
        current = current * top_k_weights[token, slot, None]
        final.index_add_(0, token, current.to(hidden_states.dtype))
    return final


def dbrx_forward(
    self: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor, rows: list[int]
) -> torch.Tensor:
    """DBRX's loop (modeling_dbrx.py, `DbrxExperts`)."""
    batch = hidden_states.shape[0]
    hidden_states = hidden_states.reshape(-1, self.hidden_size)
    final = torch.zeros_like(hidden_states)
    _mask = F.one_hot(top_k_index, num_classes=self.num_experts + 1).permute(2, 1, 0)
    by_expert = (-1, self.ffn_hidden_size, self.hidden_size)
    for expert, count in enumerate(rows):
        slot, token = routed_indices(count)
        v1, w1, w2 = (matrix.view(by_expert)[expert] for matrix in (self.mlp.v1, self.mlp.w1, self.mlp.w2))
        states = self.mlp(hidden_states[token], w1, v1, w2)
        states = states.view(-1, self.hidden_size) * top_k_weights[token, slot, None]
        final.index_add_(0, token, states)
    return final.view(batch, -1, self.hidden_size)


class GroupedProduct(torch.autograd.Function):
    """[S, k] x [E, k, n] -> [S, n] for the dtypes that grouped_mm's fake form refuses.

    torch/_meta_registrations.py asks for bfloat16; the kernel's own fallback takes float32 and float16 too.
    """

    @staticmethod
    def forward(ctx: Any, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Keeps an operand where the other one wants a gradient, as `_grouped_mm`'s derivative does."""
        wants_left, wants_right = ctx.needs_input_grad
        ctx.save_for_backward(left if wants_right else None, right if wants_left else None)
        ctx.like = tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in (left, right))
        return torch.empty(left.shape[0], right.shape[-1], dtype=left.dtype)

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """A gradient for each operand that needs one."""
        wanted = zip(ctx.like, ctx.needs_input_grad, strict=True)
        left, right = (
            torch.empty_strided(shape, stride, dtype=dtype) if wants else None
            for (shape, stride, dtype), wants in wanted
        )
        return left, right


def any_dtype_grouped_mm(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """grouped_mm, with the form above where the fake form would refuse."""

    def grouped_mm(left: torch.Tensor, right: torch.Tensor, *, offs: torch.Tensor | None = None) -> torch.Tensor:
        if left.dtype == torch.bfloat16:
            return original(left, right, offs=offs)
        return cast("torch.Tensor", GroupedProduct.apply(left, right))  # pyright: ignore[reportUnknownMemberType]

    return grouped_mm
