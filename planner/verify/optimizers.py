"""Optimizers as transformers' Trainer makes them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn

from planner.verify.blockwise import BlockwiseOptimizer
from planner.verify.library import library
from planner.verify.settings import TraceSettings

# transformers/trainer.py, `get_decay_parameter_names`.
NO_DECAY = (r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)")
LEARNING_RATE = 1e-3
# Moments, bits and whether paged, as optim="adamw_bnb_8bit", "paged_adamw_32bit", "lion_32bit" ... set them
# (transformers/trainer_optimizer.py, `_get_bitsandbytes_optimizer`).
BLOCKWISE = {
    "adamw_8bit": (2, 8, False),
    "paged_adamw": (2, 32, True),
    "paged_adamw_8bit": (2, 8, True),
    "lion": (1, 32, False),
}

LIBRARIES: list[torch.library.Library] = []
"""A registration lives as long as its library object."""
NamedParameters = list[tuple[str, nn.Parameter]]


def make_optimizers(model: nn.Module, settings: TraceSettings) -> list[torch.optim.Optimizer]:
    """The optimizer over the Trainer's two groups: with weight decay, and without (biases and norms).

    The groups matter: a foreach optimizer's copies are as large as one group.
    """
    groups = parameter_groups(model)
    if settings.optimizer == "muon":
        return muon_and_adamw([pair for group in groups for pair in group], settings)
    tables = embedding_weights(model)
    return [make_optimizer([[parameter for _, parameter in group] for group in groups], settings, tables)]


def embedding_weights(model: nn.Module) -> list[nn.Parameter]:
    """What the Trainer tells bitsandbytes to keep in 32 bit (transformers/trainer.py, `create_optimizer`)."""
    return [cast("nn.Parameter", module.weight) for module in model.modules() if isinstance(module, nn.Embedding)]


def parameter_groups(model: nn.Module) -> list[NamedParameters]:
    """Trainable parameters by name, the decayed first; an empty group is left out."""
    names = library("transformers.trainer_pt_utils").get_parameter_names
    decayed = set(cast("list[str]", names(model, [nn.LayerNorm], list(NO_DECAY))))
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [[pair for pair in named if (pair[0] in decayed) is wanted] for wanted in (True, False)]
    return [group for group in groups if group]


def make_optimizer(
    groups: list[list[nn.Parameter]], settings: TraceSettings, tables: Sequence[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """One optimizer; Adafactor as `optim="adafactor"` sets it (transformers/trainer_optimizer.py).

    `tables` are the embeddings that an 8-bit optimizer keeps in 32 bit.
    """
    params: list[dict[str, Any]] = [{"params": group} for group in groups]
    foreach, fused = settings.optimizer_impl == "foreach", settings.optimizer_impl == "fused"
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(params, lr=LEARNING_RATE, foreach=foreach, fused=fused)
    if settings.optimizer == "adafactor":
        adafactor = library("transformers.optimization").Adafactor
        return adafactor(params, lr=LEARNING_RATE, scale_parameter=False, relative_step=False)
    if settings.optimizer in BLOCKWISE:
        moments, bits, paged = BLOCKWISE[settings.optimizer]
        return BlockwiseOptimizer(params, moments=moments, bits=bits, paged=paged, full_width=tables)
    give_fused_sgd_a_shape()
    momentum = 0.9 if settings.optimizer == "sgd_momentum" else 0.0
    return torch.optim.SGD(params, lr=LEARNING_RATE, momentum=momentum, foreach=foreach, fused=fused)


@functools.cache
def give_fused_sgd_a_shape() -> None:
    """torch/_meta_registrations.py knows the fused Adams alone; without it fake tensors run the kernel on real zeros.

    aten's `_fused_sgd_` returns nothing and writes in place, so its shape is no tensor.
    """
    if not torch._C._dispatch_has_kernel_for_dispatch_key("aten::_fused_sgd_", "Meta"):  # pyright: ignore
        implementations: Any = torch.library.Library("aten", "IMPL", "Meta")
        implementations.impl("_fused_sgd_", returns_nothing)
        LIBRARIES.append(implementations)


def returns_nothing(*_tensors: Any, **_options: Any) -> None:
    """The shape of an op without a result."""


def muon_and_adamw(named: NamedParameters, settings: TraceSettings) -> list[torch.optim.Optimizer]:
    """Muon takes the hidden matrices (torch.optim.Muon takes nothing but matrices); the rest stays with AdamW."""
    matrices = [parameter for name, parameter in named if is_hidden_matrix(name, parameter)]
    rest = [parameter for name, parameter in named if not is_hidden_matrix(name, parameter)]
    adamw = make_optimizer([rest], dataclasses.replace(settings, optimizer="adamw"))
    return [torch.optim.Muon(matrices, lr=LEARNING_RATE), adamw]


def is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    """A matrix that is neither an embedding nor the head."""
    return parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
