"""Which module runs: hooks that tell the tracker, and the parts of a model that a trace must know."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from planner.verify.storages import StorageTracker

# Names of the heads of transformers' classes for sequence classification.
CLASSIFIERS = ("score", "classifier")


@contextlib.contextmanager
def module_paths(model: nn.Module, tracker: StorageTracker) -> Generator[None]:
    """Keeps the tracker's stack of module paths; the language-model head opens the moment "loss".

    The hook after forward runs on errors too, because a checkpointed block that is recomputed stops early by raising.
    """
    names = {id(module): name for name, module in named_modules(model)}
    head = output_head(model)

    def enter(module: nn.Module, _arguments: Any) -> None:
        if id(module) in names:
            tracker.module_stack.append(names[id(module)])
        if module is head and tracker.moment == "forward":
            tracker.moment = "loss"

    def leave(module: nn.Module, _arguments: Any, _output: Any) -> None:
        if id(module) in names:
            tracker.module_stack.pop()

    before = register_module_forward_pre_hook(enter)
    after = register_module_forward_hook(leave, always_call=True)
    try:
        yield
    finally:
        before.remove()
        after.remove()


def named_modules(model: Any) -> list[tuple[str, nn.Module]]:
    """Every module with its path, each once."""
    return list(model.named_modules())


def output_head(model: Any) -> Any:
    """The module that makes the logits: the language-model head, or the head of a classifier.

    PEFT wraps a classifier's head with the copy that is trained; a block's router may be called a classifier too.
    Raises ValueError where the model has neither.
    """
    blocks = blocks_path(model) + "."
    named = [(name, module) for name, module in named_modules(model) if not name.startswith(blocks)]
    scores = [module for name, module in named if name.rpartition(".")[2] in CLASSIFIERS]
    head = scores[0] if scores else model.get_output_embeddings()
    if head is None:
        raise ValueError(f"{type(model).__name__} has no language-model head")
    return head


def block_list(model: Any) -> nn.ModuleList:
    """The list of transformer blocks: the first module list of the text model, in the order of definition."""
    text_model: nn.Module = model.get_decoder() if hasattr(model, "get_decoder") else model
    return next(module for module in text_model.modules() if isinstance(module, nn.ModuleList))


def blocks_path(model: nn.Module) -> str:
    """The path of the list of transformer blocks."""
    blocks = block_list(model)
    return next(name for name, module in named_modules(model) if module is blocks)
