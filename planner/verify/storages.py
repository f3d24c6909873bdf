"""Follows every storage from its birth to the finalizer of its last owner."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from planner.verify.scratch import scratch_bytes
from planner.verify.settings import Target

NO_MODULE = ""


@dataclass(slots=True)
class StorageRecord:
    """One storage: `born` and `died` are instants (event numbers); `died` is None while it lives.

    `written_into` is the storage that the target would write a sum of gradients into (`StorageTracker.accumulated`).
    """

    bytes: int
    shape: tuple[int, ...]
    dtype: str
    op: str
    module: str
    moment: str
    in_backward_node: bool
    born: int
    died: int | None = None
    death_moment: str = ""
    died_in_backward_node: bool = False
    label: str | None = None
    note: str = ""
    written_into: StorageRecord | None = None

    @property
    def owner(self) -> StorageRecord:
        """The record that counts: itself, or the one whose storage it took over."""
        record = self
        while record.written_into is not None:
            record = record.written_into
        return record


@dataclass(frozen=True, slots=True)
class Instant:
    """What ran when the event happened."""

    moment: str
    module: str
    op: str


class StorageTracker(TorchDispatchMode):
    """A dispatch mode above the fake mode that looks at each op's outputs and registers each new untyped storage once.

    `torch.UntypedStorage` objects live exactly as long as the C++ storage behind them, so a weakref finalizer on it
    is its death. Every birth and death advances the clock by one.
    """

    def __init__(self, rounding_bytes: int, scratch_of: Target | None) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.rounding_bytes = rounding_bytes
        self.scratch_of: Target | None = scratch_of
        self.records: list[StorageRecord] = []
        self.instants: list[Instant] = []
        self.deltas: list[int] = []
        self.moment = "load"
        self.op = "load"
        self.module_stack: list[str] = []
        self.module_of_sequence: dict[int, str] = {}
        self.parameter_storages: set[int] = set()
        self._record_of: weakref.WeakKeyDictionary[Any, StorageRecord] = weakref.WeakKeyDictionary()
        self._backward_module = NO_MODULE
        self._operand_module = NO_MODULE
        self._last_sum: tuple[StorageRecord, StorageRecord] | None = None

    # -- births and deaths -------------------------------------------------------------------------------------------

    def register(self, tensor: torch.Tensor, note: str = "") -> StorageRecord | None:
        """The record of the tensor's storage, made now if it is new; None for storages without bytes."""
        if is_plain_meta(tensor):
            return None
        storage = tensor.untyped_storage()
        known = self._record_of.get(storage)
        if known is not None:
            return known.owner
        size = self.rounded(storage.nbytes())
        if size == 0:
            return None
        record = self._birth(size, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), note)
        self._record_of[storage] = record
        weakref.finalize(storage, self._death, record)
        return record

    def rounded(self, size: int) -> int:
        """Bytes as the target's allocator hands them out."""
        return -(-size // self.rounding_bytes) * self.rounding_bytes

    def _birth(self, size: int, shape: tuple[int, ...], dtype: str, note: str) -> StorageRecord:
        module, in_node = self.where()
        module = module or self._operand_module
        born = self._tick(size, module)
        record = StorageRecord(size, shape, dtype, self.op, module, self.moment, in_node, born, note=note)
        self._last_sum = None
        self.records.append(record)
        return record

    def _death(self, record: StorageRecord) -> None:
        record = record.owner
        module, in_node = self.where()
        outside = self._backward_module if self.moment == "backward" else record.module
        record.died = self._tick(0 if record.label == "host" else -record.bytes, module or outside)
        record.death_moment, record.died_in_backward_node = self.moment, in_node
        if self._last_sum is not None and self._last_sum[0] is record:
            self.sum_in_place(*self._last_sum)

    def _tick(self, delta: int, module: str) -> int:
        self.instants.append(Instant(self.moment, module, self.op))
        self.deltas.append(delta)
        return len(self.deltas) - 1

    def forget(self, record: StorageRecord) -> None:
        """Takes a storage out of the curve: it is kept in host memory."""
        record.label = "host"
        self.deltas[record.born] = 0

    def accumulated(self, args: tuple[Any, ...], result: Any) -> None:
        """Remembers a sum that the engine makes of two gradients, if it would be written into the first of them.

        torch/csrc/autograd/input_buffer.cpp, `can_accumulate_inplace`, refuses tensor subclasses, which fake tensors
        are. On a device a first gradient that nothing else holds takes the sum; one that is a view does not, because
        it holds its base. Own measurement on the CPU with torch 2.13 (tests/planner/verify/test_accumulation.py).
        """
        first = args[0]
        if not isinstance(first, torch.Tensor) or first._is_view() or not self.where()[1]:
            return
        old, new = self._record_of.get(first.untyped_storage()), self._record_of.get(result.untyped_storage())
        if old is not None and new is not None and old.owner.bytes == new.bytes and new is self.records[-1]:
            self._last_sum = (old.owner, new)

    def sum_in_place(self, old: StorageRecord, new: StorageRecord) -> None:
        """The first gradient died with the sum, before anything else was made: its storage lives on as the sum's."""
        assert old.died is not None
        self.deltas[new.born] = self.deltas[old.died] = 0
        old.died, old.death_moment, old.died_in_backward_node = None, "", False
        self.records.pop()
        new.written_into, self._last_sum = old, None

    def scratch(self, size: int, name: str) -> None:
        """Bytes that a kernel takes and gives back inside one op."""
        if size:
            record = self._birth(self.rounded(size), (size,), "uint8", "allocated inside the kernel")
            record.op = name
            self._death(record)

    # -- where we are ------------------------------------------------------------------------------------------------

    def where(self) -> tuple[str, bool]:
        """The module path now, and whether a backward node runs (False in a recomputed forward).

        In backward the node's sequence number leads to the module that recorded it in forward; recomputation
        runs with gradients enabled, under the module's own hooks.
        """
        node: Any = torch._C._current_autograd_node()  # pyright: ignore[reportPrivateUsage]
        if node is None or torch.is_grad_enabled():
            return (self.module_stack[-1] if self.module_stack else NO_MODULE), False
        module = self.module_of_sequence.get(node._sequence_nr())
        if module is not None:
            self._backward_module = module
        return self._backward_module, True

    def module_of_operand(self, args: tuple[Any, ...], position: int) -> str:
        """Where an operand was born; of a foreach kernel's list the one at the result's position.

        The optimizer runs outside every module, but what it makes comes from parameters, which have one. An op
        without such an operand belongs to the parameter of the op before, but for one that joins all (`stack`).
        """
        if self.moment != "optimizer_step":
            return NO_MODULE
        if args and isinstance(args[0], list | tuple):
            operands = cast("list[Any]", args[0])
            args = tuple(operands[position : position + 1]) if self.op.startswith("_foreach") else ()
            return next((module for operand in args if (module := self._birthplace(operand))), NO_MODULE)
        return next((module for operand in args if (module := self._birthplace(operand))), self._operand_module)

    def _birthplace(self, operand: Any) -> str:
        if not isinstance(operand, torch.Tensor) or is_plain_meta(operand):
            return NO_MODULE
        record = self._record_of.get(operand.untyped_storage())
        return NO_MODULE if record is None else record.module

    def _remember_module(self) -> None:
        if torch.is_grad_enabled() and self.module_stack:
            sequence = torch._C._autograd._get_sequence_nr() - 1  # pyright: ignore
            self.module_of_sequence[sequence] = self.module_stack[-1]

    # -- the mode ----------------------------------------------------------------------------------------------------

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name: str = func._schema.name
        if name.startswith("prim::"):
            return func(*args, **(kwargs or {}))
        self.op = name.removeprefix("aten::")
        self._remember_module()
        result = func(*args, **(kwargs or {}))
        note = ""
        if self.op == "_to_copy" and args[0].untyped_storage()._cdata in self.parameter_storages:
            note = "cast of a parameter"
        for position, value in enumerate(tree_iter(result)):
            if isinstance(value, torch.Tensor):
                self._operand_module = self.module_of_operand(args, position)
                self.register(value, note)
        if func is torch.ops.aten.add.Tensor:
            self.accumulated(args, result)
        if self.scratch_of is not None:
            self.scratch(scratch_bytes(self.op, args, result, self.scratch_of), f"{self.op} (scratch)")
        return result


def is_plain_meta(tensor: torch.Tensor) -> bool:
    """Whether it has no storage to follow."""
    return tensor.device.type == "meta" and not is_fake(tensor)


def is_fake(tensor: torch.Tensor) -> bool:
    """Whether it is a fake tensor (which reports its pretended device)."""
    return isinstance(tensor, torch._subclasses.FakeTensor)  # pyright: ignore
