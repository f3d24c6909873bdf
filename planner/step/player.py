"""What every block of a step is played with: the tape, the rules of the run and the model class's own habits."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.architecture.spec import Module
from planner.step.rules import StepRules
from planner.step.sizes import Size, constant
from planner.step.tape import StorageClass, Tape, Value
from planner.step.variants import LLAMA, Variant

FLOAT32 = 4
INDEX = 8
BOOLEAN = 1


class NotModelled(ValueError):
    """A block whose training step has no program. `what` names it."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"the training step of {what} is not modelled")


@dataclass(slots=True)
class Shared:
    """Tensors that several layers of a stack read.

    `encoded` is the encoder's result [b, e, h], `bias` T5's table of relative positions spread over all pairs of
    positions [1, heads, s, s], `crossing` the zeros that stand for it in cross-attention [1, heads, s, e]. A layer that
    reads one made elsewhere sees a storage without bytes; `made` holds those that this layer makes; `packed` the inputs
    of all layers [b, s, layers x width], `keys` and `values` those of the last layer that made its own;
    `graph` storages that an attribute of a module holds by a tensor's graph, after a recomputation too.
    """

    encoded: Value | None = None
    bias: Value | None = None
    crossing: Value | None = None
    packed: Value | None = None
    keys: Value | None = None
    values: Value | None = None
    made: list[Value] = field(default_factory=list[Value])
    graph: set[int] = field(default_factory=set[int])

    @property
    def read(self) -> tuple[Value, ...]:
        """What comes from outside the layer."""
        every = (self.encoded, self.bias, self.crossing, self.packed, self.keys, self.values)
        return tuple(v for v in every if v is not None and v not in self.made)


@dataclass(slots=True)
class Player:
    """A tape with the rules of the run; `trains_base` says whether this block's own weights are trained.

    `held` collects tensors that the class's code names, so that they live until the layer ends;
    `merged` experts' weights with their adapters added; `shared` what layers read of one another;
    `unnormed` what parallel branches read, before their norms.
    """

    tape: Tape
    rules: StepRules
    trains_base: bool
    variant: Variant = field(default=LLAMA)
    held: list[Value] = field(default_factory=list[Value])
    merged: list[Value] = field(default_factory=list[Value])
    shared: Shared = field(default_factory=Shared)
    unnormed: Value | None = None

    def weight_gradient(self, module: Module) -> tuple[StorageClass, ...]:
        """The gradients that backward leaves for a module's weight and bias."""
        width = self.rules.gradient_width
        weight = StorageClass("gradient of weights", constant(module.weight_elements * width), "gradients")
        if not module.bias:
            return (weight,)
        return (weight, StorageClass("gradient of biases", constant(module.bias * width), "gradients"))

    def trained_gradient(self, module: Module) -> tuple[StorageClass, ...]:
        """The same where this block's own weights are trained, else nothing."""
        return self.weight_gradient(module) if self.trains_base else ()

    def parameter(self, module: Module, elements: int | None = None) -> Value:
        """A bare parameter as a factor of an operation: it has no storage of its own here, only perhaps a gradient."""
        count = constant(module.weight_elements if elements is None else elements)
        value = self.tape.value("parameter", count, 0, self.trains_base)
        value.width = self.rules.weights_width
        self.tape.record("parameter", value, reads=(), weight_gradient=self.trained_gradient(module))
        return value

    def outside(self, what: str, elements: Size, width: int, *, needs_gradient: bool) -> Value:
        """A tensor that another layer made and holds: no storage of its own here, only perhaps a gradient."""
        value = self.tape.value(what, elements, 0, needs_gradient)
        value.width = width
        return value

    def dropout(self, x: Value, name: str = "dropout") -> Value:
        """aten::native_dropout: a new tensor and a boolean mask, which is kept; the CPU's mask has x's own dtype.

        Source: aten/src/ATen/native/Dropout.cpp, is_fused_kernel_acceptable.
        """
        mask = self.tape.constant("dropout mask", x.elements, x.width if self.rules.on_processor else BOOLEAN)
        return self.tape.elementwise(name, (x, mask), width=x.width, saves=(mask,))


def rows_of(x: Value, width: int) -> Size:
    """Rows of a tensor whose last dimension is `width`; a width that does not divide counts one row a token."""
    if not width:
        return Size({monomial: 1 for monomial, _ in x.elements.terms})
    return Size({monomial: max(1, coefficient // width) for monomial, coefficient in x.elements.terms})
