"""Which parts of forward are recomputed in backward."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy

from planner.verify.library import library
from planner.verify.settings import TraceSettings

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
    if settings.activation_checkpointing == "none":
        return
    options: dict[str, Any] = {"use_reentrant": False}
    if settings.activation_checkpointing == "selective_op":
        options["context_fn"] = selective_contexts
    model.activation_checkpointing_enable(options, every_n_layers=settings.checkpoint_every)


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
