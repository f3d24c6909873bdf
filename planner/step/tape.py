"""A tape of tensor operations with shapes only: what each saves for backward, what it allocates, what it computes.

It plays the rules of PyTorch's autograd on a block without running it. The rules, each with its source in the
library's own files (torch 2.13):

* An operation keeps only those inputs or results that its derivative formula names, and only when a derivative that
  needs them is wanted (tools/autograd/derivatives.yaml): `mul` keeps the other factor, `silu` its input, `softmax`
  its result, a linear keeps its input for the weight's gradient and the weight for the input's gradient.
* A tensor lives until its last use in the forward pass or, when it was kept, until the node that kept it has run
  (torch/csrc/autograd/engine.cpp releases a node's variables after its call).
* Backward runs nodes in reverse order of creation; a gradient that arrives second is added in place
  (torch/csrc/autograd/input_buffer.cpp).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from planner.step.sizes import Size, constant, values_for

Term = Literal[
    "weights", "adapters", "quantization_state", "gradients", "optimizer_states", "master_weights", "activations",
    "logits_and_loss", "temporaries", "communication",
]  # fmt: skip
OperationClass = Literal["matmul", "attention", "elementwise", "loss", "recurrence"]
NOTHING = constant(0)


class StorageClass(NamedTuple):
    """A kind of storage: how large one is, what it is, and the ledger term that it belongs to."""

    what: str
    bytes: Size
    term: Term


@dataclass(eq=False, slots=True)
class Value:
    """A tensor: its number of elements, bytes per element, storage, and whether a gradient is wanted.

    `piece` is the share of it that exists at once where a loop makes it piece by piece and nothing keeps it.
    """

    elements: Size
    width: int
    storage: int
    needs_gradient: bool
    piece: float = 1.0


@dataclass(slots=True)
class Operation:
    """One entry of the tape.

    `also` are further results, the pieces of a split beside the first. `saves_parameter` says that a parameter is kept,
    which costs nothing but makes a checkpoint recompute up to here; `casts` that its gradients are cast to narrower
    inputs afterwards.
    `gradients` lists the inputs that get a gradient: (value, True) when backward allocates a new tensor for it,
    (value, False) when the incoming gradient is passed on as it is (addition, views). `weight_gradient` is the bytes
    of the parameter gradient that backward makes, as storage classes.
    """

    name: str
    output: Value | None
    reads: tuple[int, ...]
    saves: tuple[int, ...]
    forward_temporaries: tuple[StorageClass, ...]
    backward_temporaries: tuple[StorageClass, ...]
    gradients: tuple[tuple[Value, bool], ...]
    weight_gradient: tuple[StorageClass, ...]
    keep_recomputed: bool
    also: tuple[Value, ...] = ()
    saves_parameter: bool = False
    casts: bool = False

    @property
    def results(self) -> tuple[Value, ...]:
        """Every result."""
        return () if self.output is None else (self.output, *self.also)


@dataclass(frozen=True, slots=True)
class Product:
    """The shape of a matrix product: [rows, inner] x [inner, outer], `rows` shared out among `groups` equal products.

    `input_gradient` and `weight_gradient` say which products backward makes of it.
    """

    rows: Size
    inner: Size
    outer: Size
    groups: int
    input_gradient: bool
    weight_gradient: bool


@dataclass(slots=True)
class Work:
    """Floating point operations and bytes moved by one operation, forward and backward.

    `made` and `backward_made` are the bytes of the tensors that it makes, each of which a processor's allocator may
    have to map anew; `product` is the shape of a matrix product.
    """

    name: str
    kind: OperationClass
    width: int
    flops: Size
    bytes: Size
    backward_flops: Size
    backward_bytes: Size
    model_backward_flops: Size
    made: Size = NOTHING
    backward_made: Size = NOTHING
    product: Product | None = None


@dataclass(slots=True)
class Tape:
    """Records a block. `casts_whole` is True on the CPU, which copies an operand of a narrower dtype as a whole.

    `again` are the stretches of operations that a checkpoint inside the block makes again in backward. `piece` is below
    1 inside a loop over parts of what is recorded there as a whole; `piece_of` remembers it for each storage.
    """

    casts_whole: bool = False
    storages: list[StorageClass] = field(default_factory=list[StorageClass])
    operations: list[Operation] = field(default_factory=list[Operation])
    work: list[Work] = field(default_factory=list[Work])
    term: Term | None = None
    again: list[range] = field(default_factory=list[range])
    piece: float = 1.0
    piece_of: dict[int, float] = field(default_factory=dict[int, float])

    @contextmanager
    def whole(self) -> Generator[None]:
        """What is recorded here exists as a whole, also inside a loop."""
        piece, self.piece = self.piece, 1.0
        yield
        self.piece = piece

    @contextmanager
    def in_pieces(self, share: float) -> Generator[None]:
        """What is recorded here is made in pieces, the largest of which is this share of the whole.

        What nothing keeps, and gradients, exist for one piece at a time. What is kept is kept for all of them until
        backward has come through the first: it goes piece by piece, while the others still wait.
        """
        start, self.piece = len(self.operations), share
        yield
        self.piece = 1.0
        inside = self.operations[start:]
        kept = tuple(storage for operation in inside for storage in operation.saves)
        first = next((operation for operation in inside if operation.gradients), None)
        if first is not None:
            first.saves = (*first.saves, *kept)

    def value(self, what: str, elements: Size, width: int, needs_gradient: bool) -> Value:
        """A new tensor in a storage of its own."""
        self.storages.append(StorageClass(what, elements * width, self.term or "activations"))
        if self.piece < 1:
            self.piece_of[len(self.storages) - 1] = self.piece
        return Value(elements, width, len(self.storages) - 1, needs_gradient, self.piece)

    def view(self, source: Value) -> Value:
        """The same storage seen in another shape; its gradient is passed on."""
        seen = Value(source.elements, source.width, source.storage, source.needs_gradient, self.piece)
        self.record("view", seen, reads=(source,), gradients=((source, False),))
        return seen

    def kept_behind(self, value: Value) -> set[int]:
        """Storages that the operations behind a value keep: what its graph holds while something holds the value."""
        needed, kept = {value.storage}, set[int]()
        for operation in reversed(self.operations):
            if any(result.storage in needed for result in operation.results):
                needed |= set(operation.reads)
                kept |= set(operation.saves)
        return kept

    def touch(self, *values: Value) -> None:
        """Keep values alive up to here: a Python name of the library's code still holds them."""
        self.record("touch", None, reads=values)

    def record(  # noqa: PLR0913  (an operation is what its keywords say)
        self,
        name: str,
        output: Value | None,
        *,
        reads: tuple[Value, ...],
        saves: tuple[Value, ...] = (),
        gradients: tuple[tuple[Value, bool], ...] = (),
        forward_temporaries: tuple[StorageClass, ...] = (),
        backward_temporaries: tuple[StorageClass, ...] = (),
        weight_gradient: tuple[StorageClass, ...] = (),
        keep_recomputed: bool = False,
        also: tuple[Value, ...] = (),
        saves_parameter: bool = False,
        casts: bool = False,
    ) -> None:
        """Append an operation. Saves are ignored where no gradient flows through it."""
        recorded = bool(output is not None and output.needs_gradient)
        self.operations.append(
            Operation(
                name,
                output,
                tuple(value.storage for value in reads),
                tuple(value.storage for value in saves) if recorded else (),
                forward_temporaries,
                backward_temporaries if recorded else (),
                tuple(pair for pair in gradients if pair[0].needs_gradient) if recorded else (),
                weight_gradient if recorded else (),
                keep_recomputed,
                also,
                saves_parameter and recorded,
                casts,
            )
        )

    def temporary(self, what: str, elements: Size, width: int) -> StorageClass:
        """A storage that lives inside one operation."""
        return StorageClass(what, (elements * width).part(self.piece), self.term or "temporaries")

    def elementwise(  # noqa: PLR0913  (as above)
        self,
        name: str,
        inputs: tuple[Value, ...],
        *,
        width: int | None = None,
        elements: Size | None = None,
        saves: tuple[Value, ...] = (),
        save_output: bool = False,
        forward_temporaries: tuple[StorageClass, ...] = (),
        backward_temporaries: tuple[StorageClass, ...] = (),
        what: str | None = None,
        extra_gradient: bool = False,
        casts: bool = False,
    ) -> Value:
        """An operation of one output with the promoted width of its inputs; each differentiable input gets a gradient.

        `extra_gradient` is True when a parameter inside it is trained (a norm's weight).
        """
        first = inputs[0]
        out = self.value(
            what or name,
            first.elements if elements is None else elements,
            max(value.width for value in inputs) if width is None else width,
            extra_gradient or any(value.needs_gradient for value in inputs),
        )
        kept = (*saves, out) if save_output else saves
        self.record(
            name,
            out,
            reads=inputs,
            saves=kept,
            gradients=tuple((value, True) for value in inputs),
            forward_temporaries=forward_temporaries,
            backward_temporaries=backward_temporaries,
            casts=casts,
        )
        self.add_work(
            name, "elementwise", out.width, NOTHING, moved(*inputs, out), moved(*inputs, out) * 2,
            made=moved(out), backward_made=moved(*(value for value in inputs if value.needs_gradient)),
        )  # fmt: skip
        return out

    def unary(
        self, name: str, x: Value, keeps: Literal["input", "result", "nothing"] = "nothing", *, width: int | None = None
    ) -> Value:
        """A pointwise operation of one tensor whose derivative formula names its input, its result or nothing."""
        saves = (x,) if keeps == "input" else ()
        return self.elementwise(name, (x,), width=width, saves=saves, save_output=keeps == "result")

    def multiply(self, name: str, left: Value, right: Value, *, what: str | None = None) -> Value:
        """left * right: each factor is kept when the other wants a gradient.

        A factor that was spread over the other's shape gets its gradient in the full shape first, summed afterwards;
        one of a narrower dtype gets it in the wider dtype first.
        """
        large = larger(left.elements, right.elements)
        width = max(left.width, right.width)
        spread = tuple(
            self.temporary("gradient before its sum", large, width)
            for value in (left, right)
            if value.needs_gradient and (value.elements != large or value.width != width)
        )
        saves = ((left,) if right.needs_gradient else ()) + ((right,) if left.needs_gradient else ())
        copies = self.widened(left, right)
        return self.elementwise(
            name, (left, right), elements=large, saves=saves, what=what or name,
            forward_temporaries=copies, backward_temporaries=(*spread, *copies),
            casts=left.width != right.width,
        )  # fmt: skip

    def widened(self, *operands: Value) -> tuple[StorageClass, ...]:
        """Copies in the wider dtype that the CPU makes of an operation's operands, inside it.

        Source: aten/src/ATen/TensorIterator.cpp compute_types; CUDA casts element by element in the kernel.
        """
        width = max(value.width for value in operands)
        narrow = [value for value in operands if value.width != width] if self.casts_whole else []
        return tuple(self.temporary("operand in the wider dtype", value.elements, width) for value in narrow)

    def copied(self, name: str, source: Value, elements: Size | None = None) -> Value:
        """A new tensor with some or all of the source's elements (contiguous, gather, repeat): keeps nothing."""
        return self.elementwise(name, (source,), elements=elements)

    def concatenate(self, name: str, parts: tuple[Value, ...], elements: Size | None = None) -> Value:
        """A new tensor of all parts. Backward hands each part a view of the incoming gradient."""
        total = NOTHING
        for part in parts:
            total = total + part.elements
        width = max(part.width for part in parts)
        out = self.value(name, elements or total, width, any(part.needs_gradient for part in parts))
        self.record(name, out, reads=parts, gradients=tuple((part, False) for part in parts))
        self.add_work(name, "elementwise", width, NOTHING, moved(*parts, out), NOTHING, made=moved(out))
        return out

    def pieces(self, name: str, source: Value, sizes: tuple[Size, ...]) -> tuple[Value, ...]:
        """Views of one tensor (split, chunk, unbind); backward lays their gradients together in a new tensor."""
        parts = tuple(Value(size, source.width, source.storage, source.needs_gradient, self.piece) for size in sizes)
        self.record(name, parts[0], reads=(source,), gradients=((source, True),), also=parts[1:])
        return parts

    def slice(self, name: str, source: Value, elements: Size) -> Value:
        """A view of a part; backward writes its gradient into a new tensor of the whole's size."""
        part = Value(elements, source.width, source.storage, source.needs_gradient, self.piece)
        self.record(name, part, reads=(source,), gradients=((source, True),))
        return part

    def reshaped(self, source: Value, elements: Size) -> Value:
        """The same storage with another count of elements (expand); backward sums the spread gradient."""
        seen = Value(elements, source.width, source.storage, source.needs_gradient, self.piece)
        self.record("expand", seen, reads=(source,), gradients=((source, True),))
        return seen

    def constant(self, what: str, elements: Size, width: int) -> Value:
        """A tensor that wants no gradient, made here (indices, masks, decay factors)."""
        out = self.value(what, elements, width, False)
        self.record(what, out, reads=())
        return out

    def add(self, name: str, left: Value, right: Value) -> Value:
        """left + right: keeps nothing; the gradient is passed on, or cast for an input of another width."""
        large = larger(left.elements, right.elements)
        out = self.value(name, large, max(left.width, right.width), left.needs_gradient or right.needs_gradient)
        gradients = tuple((value, value.width != out.width or value.elements != large) for value in (left, right))
        self.record(name, out, reads=(left, right), gradients=gradients, forward_temporaries=self.widened(left, right))
        self.add_work(name, "elementwise", out.width, NOTHING, moved(left, right, out), NOTHING, made=moved(out))
        return out

    def cast(self, source: Value, width: int, what: str) -> Value:
        """A copy in another dtype; the same tensor when the dtype is already right. Keeps nothing."""
        if source.width == width:
            return source
        return self.elementwise("cast", (source,), width=width, what=what)

    def add_work(  # noqa: PLR0913  (as above)
        self,
        name: str,
        kind: OperationClass,
        width: int,
        flops: Size,
        moved_bytes: Size,
        backward_bytes: Size,
        backward_flops: Size = NOTHING,
        model_backward_flops: Size | None = None,
        *,
        made: Size = NOTHING,
        backward_made: Size = NOTHING,
        product: Product | None = None,
    ) -> None:
        """Note what the operation computes and moves; `model_backward_flops` leaves recomputation out."""
        model = backward_flops if model_backward_flops is None else model_backward_flops
        self.work.append(
            Work(
                name, kind, width, flops, moved_bytes, backward_flops, backward_bytes, model,
                made=made, backward_made=backward_made, product=product,
            )
        )  # fmt: skip


def larger(left: Size, right: Size) -> Size:
    """The size of a broadcast result: the one that is larger at a usual batch, sequence length and rank."""
    values = values_for((left.variables | right.variables) - {"e"}, 2, 4096, 16) | {"e": 4096}
    return left if left.at(values) >= right.at(values) else right


def moved(*values: Value) -> Size:
    """Bytes read or written when each value passes once."""
    total = NOTHING
    for value in values:
        total = total + value.elements * value.width
    return total
