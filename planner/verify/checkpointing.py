"""Which parts of forward are recomputed in backward."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend
from torch.utils.checkpoint import CheckpointPolicy

from planner.verify import target
from planner.verify.library import library
from planner.verify.settings import TraceSettings
from planner.verify.target import replace

# torchtitan distributed/activation_checkpoint.py, `_op_sac_save_list`; its collectives don't occur on one device.
SAVED = {
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten.max.default,
}


def prepare_checkpointing(model: Any, settings: TraceSettings) -> None:
    """Checkpoints blocks as transformers/trainer.py does: `activation_checkpointing_enable()`.

    Its default is not re-entrant, and it makes the embedding's output require a gradient, adapters or not
    (modeling_utils.py, `_activation_checkpointing_enable`). With `every_n_layers` blocks 0, n, 2n ... are checkpointed.
    """
    if settings.activation_checkpointing in {"none", "selective_attention"}:
        return
    options: dict[str, Any] = {"use_reentrant": False}
    if settings.activation_checkpointing == "selective_op":
        options["context_fn"] = selective_contexts
    model.activation_checkpointing_enable(options, every_n_layers=settings.checkpoint_every)


@contextlib.contextmanager
def scores_made_again(settings: TraceSettings) -> Generator[None]:
    """With `selective_attention`, a checkpoint around what keeps score matrices, as Megatron puts one around its own.

    That is the eager function of each class, whose weights are then not returned (Megatron-LM core/transformer/
    attention.py `_checkpointed_attention_forward` returns the context alone), and the math kernel, a processor's too. A
    fused kernel keeps no scores and is left alone.

    Raises:
        NotImplementedError: the class has eager attention in its own code, where nothing can be put around it.
    """
    if settings.activation_checkpointing != "selective_attention":
        yield
        return
    seen: list[Any] = []

    def get_interface(self: Any, name: str, default: Callable[..., Any]) -> Callable[..., Any]:
        if name != "eager":
            return original(self, name, default)
        seen.append(default)
        return made_again(lambda *args, **kwargs: (default(*args, **kwargs)[0], None))

    interface = library("transformers.modeling_utils").AttentionInterface
    original = interface.get_interface
    with contextlib.ExitStack() as undo:
        replace(undo, interface, "get_interface", get_interface)
        replace(undo, target, "math_attention", made_again(target.math_attention))
        replace(undo, F, "scaled_dot_product_attention", made_again_if_math(F.scaled_dot_product_attention))
        yield
    if settings.attention == "eager" and not seen:
        raise NotImplementedError("its attention is in its own code, where no checkpoint can be put around it")


def made_again(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, of which backward keeps the arguments."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return library("torch.utils.checkpoint").checkpoint(function, *args, use_reentrant=False, **kwargs)

    return call


def made_again_if_math(attention: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """PyTorch's own choice of a kernel (aten/src/ATen/native/transformers/sdp_utils_cpp.cpp), with a checkpoint."""
    again = made_again(attention)

    def call(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        choice = torch._fused_sdp_choice(query, key, value, *args, **kwargs)  # pyright: ignore
        return (again if choice == SDPBackend.MATH.value else attention)(query, key, value, *args, **kwargs)

    return call


def selective_contexts() -> Any:
    """torchtitan's per-operation policy for one block: attention and every second matrix product are kept."""
    counts = {False: 0, True: 0}
    return library("torch.utils.checkpoint").create_selective_checkpoint_contexts(functools.partial(policy, counts))


def policy(counts: dict[bool, int], context: Any, op: Any, *_: Any, **__: Any) -> CheckpointPolicy:
    """Keeps the first, third, fifth ... `mm`; products with a bias are `addmm`, which is not on the list."""
    if op == torch.ops.aten.mm.default:
        counts[context.is_recompute] += 1
        kept = counts[context.is_recompute] % 2 == 1
    else:
        kept = op in SAVED
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE
