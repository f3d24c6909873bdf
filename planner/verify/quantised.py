"""Linear layers as bitsandbytes stores and multiplies them, for fake tensors (the package itself needs a device).

Shapes, dtypes and lifetimes follow bitsandbytes 0.49 to 0.50: nn/modules.py (Linear4bit, Linear8bitLt),
autograd/_functions.py (MatMul4Bit, MatMul8bitLt), backends/cuda/ops.py. Two loads are stated, as fake tensors have no
values: the 4-bit product forms the whole weight in forward too (0.50 has a kernel that doesn't, for at most 1,536 rows
on some cards), and no column of the 8-bit product's input holds outliers.
"""

from __future__ import annotations

import functools
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from planner.verify.library import library
from planner.verify.modules import output_head
from planner.verify.settings import TraceSettings

BLOCK = 64
NESTED_BLOCK = 256
OUTLIER_THRESHOLD = 6.0
STATE_PREFIX = "quant_state_"


class QuantisedLinear(nn.Linear):
    """An nn.Linear whose weight is packed; scales and code books are buffers named `quant_state_*`."""

    def __init__(self, linear: Any, settings: TraceSettings) -> None:
        widths = (linear.in_features, linear.out_features) if isinstance(linear, nn.Linear) else linear.weight.shape
        super().__init__(*widths, bias=False, device="meta")  # pyright: ignore[reportUnknownMemberType]
        self.scheme = settings.quantization
        self.compute_dtype: torch.dtype = getattr(torch, settings.compute_dtype)
        self.bias = linear.bias
        elements = linear.weight.numel()
        packed = (-(-elements // 2), 1) if self.scheme == "nf4" else tuple(linear.weight.shape)
        stored = torch.empty(packed, dtype=torch.uint8 if self.scheme == "nf4" else torch.int8, device="meta")
        self.weight = nn.Parameter(stored, requires_grad=False)
        for name, shape, dtype in state_tensors(self, elements, settings.double_quant):
            empty = torch.empty(shape, dtype=dtype, device="meta")
            self.register_buffer(STATE_PREFIX + name, empty, persistent=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`Linear4bit.forward` computes in the compute dtype and goes back; `Linear8bitLt.forward` in the input's."""
        if self.scheme == "int8":
            return cast("torch.Tensor", Product8Bit.apply(input, self.bias, self))  # pyright: ignore
        seen = input.to(self.compute_dtype)
        bias = None if self.bias is None else self.bias.to(self.compute_dtype)  # pyright: ignore
        return cast("torch.Tensor", Product4Bit.apply(seen, bias, self)).to(input.dtype)  # pyright: ignore

    def dequantised(self, dtype: torch.dtype) -> torch.Tensor:
        """The whole weight [out, in]; nested scales are dequantised to float32 first (`dequantize_4bit`)."""
        _scales = torch.empty(-(-self.weight.numel() * 2 // BLOCK)) if self.nested else None
        return torch.empty(self.out_features, self.in_features, dtype=dtype)

    @property
    def nested(self) -> bool:
        """Whether scales are quantised too."""
        return hasattr(self, STATE_PREFIX + "nested_absmax")


def state_tensors(
    linear: QuantisedLinear, elements: int, double_quant: bool
) -> list[tuple[str, tuple[int, ...], torch.dtype]]:
    """What stands beside the packed weight: name, shape, dtype (functional.py, QuantState; nn/modules.py, SCB)."""
    if linear.scheme == "int8":
        return [("row_scales", (linear.out_features,), torch.float32)]
    blocks = -(-elements // BLOCK)
    code = ("code", (16,), torch.float32)
    if not double_quant:
        return [("absmax", (blocks,), torch.float32), code]
    return [
        ("absmax", (blocks,), torch.uint8),
        ("nested_absmax", (-(-blocks // NESTED_BLOCK),), torch.float32),
        ("nested_code", (256,), torch.float32),
        ("offset", (), torch.float32),
        code,
    ]


class Product4Bit(torch.autograd.Function):
    """MatMul4Bit: keeps the packed weight alone; both passes form the whole weight for one product."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bias: torch.Tensor | None, linear: QuantisedLinear) -> torch.Tensor:
        """[.., in] -> [.., out]."""
        ctx.linear = linear
        return F.linear(x, linear.dequantised(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """The gradient of the input; the weight has none."""
        (gradient,) = gradients
        return torch.matmul(gradient, ctx.linear.dequantised(gradient.dtype)), None, None


class Product8Bit(torch.autograd.Function):
    """MatMul8bitLt: keeps its input as an attribute of the node, which no checkpoint sees.

    `ctx.tensors = (CAt, subA, A)`: unlike saved tensors these outlive a checkpointed forward pass, until the node goes.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bias: torch.Tensor | None, linear: QuantisedLinear) -> torch.Tensor:
        """[.., in] -> [.., out] through a float16 copy, an int8 copy and an int32 product."""
        rows = x.reshape(-1, x.shape[-1])
        narrow, _row_scales = quantised_rows(rows.to(torch.float16))
        ctx.linear, ctx.kept, ctx.shape = linear, rows, x.shape
        product = int8_product(narrow, linear.out_features, bias, x.dtype)
        return product.reshape(*x.shape[:-1], linear.out_features)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """The gradient of the input, through the whole weight in the input's dtype."""
        rows = gradients[0].reshape(-1, gradients[0].shape[-1]).contiguous()
        dtype = ctx.kept.dtype
        weight = ctx.linear.dequantised(dtype)
        return torch.matmul(rows.to(dtype), weight).view(ctx.shape), None, None


def quantised_rows(half: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`int8_vectorwise_quant` with a threshold: int8 rows and their scales; a mask of outliers is made on the way."""
    scales = torch.empty(half.shape[0])
    narrow = torch.empty(half.shape, dtype=torch.int8)
    _outliers = half.abs() >= OUTLIER_THRESHOLD
    return narrow, scales


def int8_product(narrow: torch.Tensor, outputs: int, bias: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    """`int8_scaled_mm`: the int32 product, its float16 form, and the result in the wanted dtype."""
    whole = torch.empty(narrow.shape[0], outputs, dtype=torch.int32)
    half = torch.empty_like(whole, dtype=torch.float16)
    if bias is not None:
        half.add_(bias)
    return half.to(dtype)


def quantise(model: nn.Module, settings: TraceSettings) -> None:
    """Replaces every nn.Linear and GPT-2's Conv1D, but not the output head.

    transformers/integrations/bitsandbytes.py `replace_with_bnb_linear`, with its default modules_to_not_convert.
    """
    head, transposed = output_head(model), library("transformers.pytorch_utils").Conv1D
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child is not head and (type(child) is nn.Linear or isinstance(child, transposed)):
                setattr(parent, name, QuantisedLinear(child, settings))


def adapt_as_bitsandbytes(model: nn.Module) -> None:
    """Gives PEFT's layers over a quantised base the forward of peft/tuners/lora/bnb.py."""
    layer_class = library("peft.tuners.lora.layer").Linear
    for module in model.modules():
        if isinstance(module, layer_class) and isinstance(module.base_layer, QuantisedLinear):
            module.forward = functools.partial(adapted_forward, module)


def adapted_forward(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """Base, cloned in 4 bit, plus the adapter's output in the base's dtype.

    peft/tuners/lora/bnb.py, Linear4bit.forward and Linear8bitLt.forward: unlike over a 16-bit base, the adapter's
    output is cast before the sum. Under autocast neither cast is made.
    """
    name = layer.active_adapters[0]
    result = layer.base_layer(x)
    if layer.base_layer.scheme == "nf4":
        result = result.clone()
    converts = not torch.is_autocast_enabled("cpu")
    if converts:
        x = x.to(layer.lora_A[name].weight.dtype)
    output = layer.lora_B[name](layer.lora_A[name](layer.lora_dropout[name](x))) * layer.scaling[name]
    if converts:
        output = output.to(result.dtype)
    return result + output
