"""The short jobs of a calibration: products, attention, streams of bytes, the loss and the optimizer, by size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import nn

from planner.calibration.device import Device
from planner.calibration.stopwatch import median_seconds
from planner.hardware.calibration import Form, Operation, Variable

MIB: Final = 2**20
ROWS: Final = (64, 256, 1024)
SIDES: Final = ((192, 192), (256, 688), (512, 512), (1376, 512), (1024, 1024), (768, 3072), (512, 12000))
"""[inner, outer] of products as models have them, up to an output head."""
NARROW_SIDES: Final = ((256, 16), (16, 256), (1024, 16), (16, 1024))
"""Those of adapters."""
LARGEST_PRODUCT: Final = 26e9
ATTENTION: Final = ((8, 64, 128), (4, 64, 512), (8, 64, 512), (8, 64, 1024), (4, 64, 2048), (4, 128, 512))
"""Heads, width of a head, sequence length."""
STREAM_ELEMENTS: Final = tuple(2**power for power in (12, 14, 16, 18, 20, 22))
LOSSES: Final = ((64, 4000), (256, 4000), (512, 8000), (256, 32000), (1024, 16000))
"""Rows and vocabulary."""
TENSORS: Final = (
    (64, 2**12), (128, 2**15), (40, 2**17), (12, 2**19), (4, 2**21), (3, 2**22), (2, 3 * 2**21), (1, 2**23 + 2**20),
    (1, 2**24),
)  # fmt: skip
"""How many tensors of how many elements an optimizer updates. But for the first, weights, gradients and moments are
together larger than most caches, as those of a model are. Temporaries of the last ones are mapped anew."""


@dataclass(frozen=True, slots=True)
class Point:
    """One measured size of a class of operations: `size` is FLOPs or bytes of one operation."""

    operation: Operation
    dtype: str
    form: Form
    variable: Variable
    size: float
    seconds: float

    @property
    def rate(self) -> float:
        """Size over seconds."""
        return self.size / self.seconds


class MicroBenchmarks:
    """Runs them on one device in one dtype."""

    def __init__(self, device: Device, dtype: str) -> None:
        self.device = device
        self.dtype = dtype
        self.type: torch.dtype = getattr(torch, dtype)

    def all(self) -> Iterator[Point]:
        """Every point, the small ones first."""
        yield from self.products("matmul", SIDES)
        yield from self.products("narrow_matmul", NARROW_SIDES)
        yield from self.attention()
        yield from self.streams()
        if self.dtype == "float32":
            yield from self.losses()  # the library computes the loss in float32 whatever the model's dtype
        yield from self.optimizers()

    def random(self, *shape: int) -> torch.Tensor:
        """Numbers around zero."""
        return torch.randn(*shape, device=self.device.torch).to(self.type)

    def point(
        self, operation: Operation, form: Form, variable: Variable, size: float, work: Callable[[], Any]
    ) -> Point:
        """Time it."""
        return Point(operation, self.dtype, form, variable, size, self.seconds(work))

    def seconds(self, work: Callable[[], Any]) -> float:
        """The median seconds of one run."""
        return median_seconds(self.device, work)

    def products(self, operation: Operation, sides: tuple[tuple[int, int], ...]) -> Iterator[Point]:
        """A linear module's product and both of its gradients: x W^T, g W, g^T x."""
        for inner, outer in sides:
            weight = self.random(outer, inner)
            for rows in ROWS:
                flops = 2.0 * rows * inner * outer
                if flops > LARGEST_PRODUCT:
                    continue
                x, gradient = self.random(rows, inner), self.random(rows, outer)
                yield self.point(operation, "forward", "flops", flops, lambda x=x, w=weight: F.linear(x, w))
                yield self.point(operation, "input_gradient", "flops", flops, lambda g=gradient, w=weight: g @ w)
                yield self.point(operation, "weight_gradient", "flops", flops, lambda g=gradient, x=x: g.t() @ x)

    def attention(self) -> Iterator[Point]:
        """Causal attention forward and backward; FLOPs as the step program counts them, the visible half only."""
        for heads, width, length in ATTENTION:
            q, k, v = (self.random(1, heads, length, width).requires_grad_() for _ in range(3))
            flops = 2.0 * length * length * heads * width

            def forward(q: torch.Tensor = q, k: torch.Tensor = k, v: torch.Tensor = v) -> torch.Tensor:
                return F.scaled_dot_product_attention(q, k, v, is_causal=True)

            ahead = self.seconds(forward)
            yield Point("attention", self.dtype, "forward", "flops", flops, ahead)
            yield Point("attention", self.dtype, "backward", "flops", 2.5 * flops, self.back(forward, (q, k, v)))

    def back(self, forward: Callable[[], torch.Tensor], inputs: tuple[torch.Tensor, ...]) -> float:
        """Seconds of the backward of what `forward` makes."""
        out = forward()
        gradient = torch.ones_like(out)
        return self.seconds(lambda: torch.autograd.grad(out, inputs, gradient, retain_graph=True))

    def streams(self) -> Iterator[Point]:
        """A product of two tensors, and an activation with its backward: bytes as the step program counts them."""
        width = self.type.itemsize
        for elements in STREAM_ELEMENTS:
            x, y = self.random(elements), self.random(elements)
            moved = 3.0 * elements * width
            yield self.point("elementwise", "forward", "bytes", moved, lambda x=x, y=y: x * y)
            leaf = x.clone().requires_grad_()
            moved = 2.0 * elements * width
            yield self.point("activation", "forward", "bytes", moved, lambda x=x: F.silu(x))
            seconds = self.back(lambda leaf=leaf: F.silu(leaf), (leaf,))
            yield Point("activation", self.dtype, "backward", "bytes", 2 * moved, seconds)

    def losses(self) -> Iterator[Point]:
        """Cross-entropy over logits that are there; bytes as the step program counts them."""
        for rows, vocabulary in LOSSES:
            logits = self.random(rows, vocabulary).requires_grad_()
            targets = torch.randint(vocabulary, (rows,), device=self.device.torch)
            moved = 16.0 * rows * vocabulary

            def forward(logits: torch.Tensor = logits, targets: torch.Tensor = targets) -> torch.Tensor:
                return F.cross_entropy(logits, targets, reduction="sum")

            yield self.point("loss", "forward", "bytes", moved, forward)
            yield Point("loss", self.dtype, "backward", "bytes", moved, self.back(forward, (logits,)))

    def optimizers(self) -> Iterator[Point]:
        """Clipping, AdamW's update and dropping the gradients, by size of tensor.

        Bytes are those that `planner.memory.optimizer.traffic_bytes` counts of an update that is not fused: three
        passes over weight and moments, both ways, and the gradient.
        """
        for count, elements in TENSORS:
            tensors = [nn.Parameter(self.random(elements)) for _ in range(count)]
            optimizer = torch.optim.AdamW(tensors, lr=1e-3, foreach=not self.device.on_processor)
            gradients = [self.random(elements) for _ in range(count)]

            def step(
                tensors: list[nn.Parameter] = tensors,
                gradients: list[torch.Tensor] = gradients,
                optimizer: torch.optim.Optimizer = optimizer,
            ) -> None:
                for tensor, gradient in zip(tensors, gradients, strict=True):
                    tensor.grad = gradient
                nn.utils.clip_grad_norm_(tensors, 1.0)
                optimizer.step()
                optimizer.zero_grad()

            seconds = self.seconds(step) / count
            yield Point("optimizer", self.dtype, "forward", "bytes", 21.0 * elements * self.type.itemsize, seconds)


def mapping_seconds_per_byte(device: Device, mapped_from_bytes: int) -> float:
    """What a byte of a block costs that the allocator maps anew: the first write beyond a write to memory that it had.

    Zero where a caching allocator hands out what it holds.
    """
    if not device.on_processor:
        return 0.0
    elements = 2 * mapped_from_bytes // 4
    source, held = torch.randn(elements), torch.empty(elements)
    fresh = median_seconds(device, lambda: source + 1.0)
    known = median_seconds(device, lambda: torch.add(source, 1.0, out=held))
    return max(0.0, fresh - known) / (4 * elements)
