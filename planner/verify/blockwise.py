"""bitsandbytes' optimizers, for fake tensors: the states that they make and a step that works in place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

SMALLEST_8_BIT_ELEMENTS = 4096
SMALLEST_PAGED_ELEMENTS = 100_000
BLOCK = 256
PAGED_PREFIX = "paged_"


class BlockwiseOptimizer(torch.optim.Optimizer):
    """AdamW (two moments) or Lion (one) in 32 or 8 bit, paged or not.

    bitsandbytes/optim/optimizer.py: `init_state` keeps tensors under 4,096 elements, and those in `full_width`, in
    float32; 8-bit moments have a float32 scale per 256 elements and share two code books; `get_state_buffer` makes
    moments of at least 100,000 elements pageable (their names begin with `paged_` here), never the scales.
    """

    def __init__(
        self, params: list[dict[str, Any]], *, moments: int, bits: int, paged: bool, full_width: Iterable[nn.Parameter]
    ) -> None:
        super().__init__(params, {})
        self.moments, self.bits, self.paged = moments, bits, paged
        self.full_width = {id(parameter) for parameter in full_width}
        self.code_books: list[torch.Tensor] = []

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore  # noqa: ARG002
        """Makes missing states; the update itself is one kernel in place (`optimizer_update_8bit_blockwise`)."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and not self.state[parameter]:
                    self.state[parameter].update(self.new_state(parameter))

    def new_state(self, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
        """The states of one parameter."""
        narrow = (
            self.bits == 8 and parameter.numel() >= SMALLEST_8_BIT_ELEMENTS and id(parameter) not in self.full_width
        )
        prefix = PAGED_PREFIX if self.paged and parameter.numel() >= SMALLEST_PAGED_ELEMENTS else ""
        dtype = torch.uint8 if narrow else torch.float32
        state = {f"{prefix}state{i}": torch.zeros_like(parameter, dtype=dtype) for i in range(self.moments)}
        if narrow:
            if not self.code_books:
                self.code_books = [torch.empty(256) for _ in range(2)]
            blocks = -(-parameter.numel() // BLOCK)
            state |= {f"qmap{i}": self.code_books[i] for i in range(self.moments)}
            state |= {f"absmax{i}": torch.zeros(blocks) for i in range(self.moments)}
        return state
