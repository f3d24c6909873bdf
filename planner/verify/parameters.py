"""The parameters that the library's class really has, by component of the contract."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from torch import nn

from planner.verify.build import build_model
from planner.verify.modules import named_modules
from planner.verify.settings import TraceSettings

# Tried in order: a pattern is looked for in the parameter's name, then in the names of the classes that hold it.
BY_NAME: Final[Mapping[str, str]] = {
    "vision": r"visual|vision|multi_modal",
    "audio": r"audio",
    "lm_head": r"lm_head|embed_out",
    "router": r"shared_expert_gate|e_score_correction_bias",
    "shared_experts": r"shared",
}
BY_CLASS: Final[Mapping[str, str]] = {
    "norms": r"Norm\w*$",
    "embedding": r"Embedding$",
    "experts": r"Experts(\s|$)|ExpertGLU",
    "state_space": r"Mixer(\s|$)|GatedDeltaNet|DeltaAttention|Lightning|ShortConv|RecurrentBlock|MambaLayer",
    "router": r"Router(\s|$)|Gate(\s|$)",
    "attention": r"Attention(\s|$)|MLA(\s|$)",
}


@dataclass(frozen=True, slots=True)
class Built:
    """What was built on the meta device: the class, its elements by component, tied ones once."""

    class_name: str
    by_component: dict[str, int]

    @property
    def total(self) -> int:
        """All elements."""
        return sum(self.by_component.values())


def built_parameters(config: dict[str, Any]) -> Built:
    """Builds the whole model without memory and counts it.

    Raises what transformers raises when it can't build the config.
    """
    model = build_model(config, TraceSettings())
    classes = {name: type(module).__name__ for name, module in named_modules(model)}
    counts: Counter[str] = Counter()
    for name, parameter in named_parameters(model):
        parts = name.split(".")[:-1]
        holders = " ".join(classes[".".join(parts[: end + 1])] for end in range(len(parts)))
        counts[component_of(name, holders)] += parameter.numel()
    return Built(type(model).__name__, dict(counts))


def named_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Every parameter with its path, each once."""
    return list(model.named_parameters())


def component_of(name: str, holders: str) -> str:
    """The contract's component of a parameter, from its name and the classes that hold it, outermost first."""
    for component, pattern in BY_NAME.items():
        if re.search(pattern, name):
            return component
    return next((component for component, pattern in BY_CLASS.items() if re.search(pattern, holders)), "mlp")
