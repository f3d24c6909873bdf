"""Which runs are compared: a seeded sample in which nearly every pair of two knobs' values stands together once."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import combinations
from typing import Any, Final

from planner.architecture.config import ConfigError
from planner.catalog.models import all_models
from planner.contract import EstimateRequest
from planner.errors import NotModelledError, PlanError
from planner.estimate import spec_of
from planner.evaluation import Evaluation, evaluate
from planner.hardware import resolve_machine
from planner.verify.coverage import NotVerifiable, settings_for
from planner.verify.depth import pattern
from planner.verify.library import library
from planner.verify.settings import TraceSettings
from planner.verify.verification import layer_numbers
from tests.planner.step.reduced import reduced_config

SEED: Final = 20261124
CANDIDATES: Final = 24
DEVICE: Final = "nvidia-b200-180gb"
MOST_LAYERS: Final = 4
FEWEST_LAYERS: Final = 2
STEPWISE: Final = frozenset({"mamba", "falcon_mamba", "jamba", "nemotron_h", "recurrent_gemma"})
"""Without their own kernel these scan one position after the other, so that a trace takes a second for 25 of them."""
SHORTEST: Final = {"sequence_length": 128, "gradient_accumulation_steps": 1}
"""All that is compared of such families."""
VOCABULARY: Final = 2304
"""No family's width: logits are known by it."""

Case = Mapping[str, Any]
KNOBS: Final[Mapping[str, Sequence[Any]]] = {
    "method": ("full", "lora", "qlora", "dora", "freeze"),
    "activation_checkpointing": ("none", "full", "selective_op", "every second"),
    "loss": ("full_logits", "chunked", "fused_linear"),
    "attention": ("sdpa", "eager", "flash_attention"),
    "optimizer": ("adamw fused", "adamw foreach", "adamw for_loop", "adamw_8bit", "adafactor", "sgd_momentum", "lion"),
    "precision": ("bfloat16", "float32 autocast", "float32"),
    "gradient_accumulation_steps": (1, 2),
    "micro_batch_size": (1, 2, 4),
    "sequence_length": (128, 512, 1024),
}


def families() -> list[str]:
    """The catalogue's model types of which transformers has a class, each once."""
    known = library("transformers").CONFIG_MAPPING
    return sorted({kind for model in all_models() if (kind := str(model.config["model_type"])) in known})


def knobs(family: str | None = None) -> Mapping[str, Sequence[Any]]:
    """All knobs, the family first."""
    return {"family": [family] if family else families(), **KNOBS}


def sample(values: Mapping[str, Sequence[Any]], admitted: Callable[[Case], bool]) -> Iterator[Case]:
    """A greedy pairwise sample (AETG, Cohen et al. 1997) of runs that the closed form admits, without an end.

    It depends on the seed alone.
    """
    chosen = random.Random(SEED)
    seen: set[tuple[tuple[str, Any], tuple[str, Any]]] = set()
    while True:
        candidates = [{name: chosen.choice(some) for name, some in values.items()} for _ in range(CANDIDATES)]
        candidates.sort(key=lambda case: -len(set(combinations(case.items(), 2)) - seen))
        best = next((case for case in candidates if admitted(case)), None)
        if best is not None:
            seen |= set(combinations(best.items(), 2))
            yield best


def is_admitted(case: Case) -> bool:
    """Whether the closed form has an answer and the tracer the words for it.

    A class that allocates what no checkpoint has is not compared: the verified tier tells that part from the rest.
    """
    if case["family"] in STEPWISE and not SHORTEST.items() <= case.items():
        return False
    try:
        _, evaluation, _ = planned(case)
    except (ConfigError, PlanError, NotModelledError, NotVerifiable):
        return False
    return not evaluation.plan.spec.phantoms


def planned(case: Case) -> tuple[dict[str, Any], Evaluation, TraceSettings]:
    """The model's configuration, the closed form's answer, and the run in the tracer's words."""
    config = config_of(case["family"])
    request = request_of(case, config)
    evaluation = evaluate(request, spec_of(config, json.dumps(config)), resolve_machine(request.machine))
    return config, evaluation, settings_for(evaluation.plan, request.run)


@cache
def config_of(family: str) -> dict[str, Any]:
    """A published configuration with a small vocabulary and the fewest layers that hold each kind: 2 or 4.

    So that a trace takes about a second and no term is hidden behind the weights.
    """
    config = _with_vocabulary(reduced_config(family, MOST_LAYERS))
    prefix, period = pattern(layer_numbers(spec_of(config, json.dumps(config))))
    if prefix + period > FEWEST_LAYERS:
        return config
    return _with_vocabulary(reduced_config(family, FEWEST_LAYERS))


def _with_vocabulary(config: dict[str, Any]) -> dict[str, Any]:
    return config | {"vocab_size": VOCABULARY}


def request_of(case: Case, config: Mapping[str, Any]) -> EstimateRequest:
    """The case in the contract's words."""
    optimizer, _, implementation = case["optimizer"].partition(" ")
    weights, _, autocast = case["precision"].partition(" ")
    checkpointing = case["activation_checkpointing"]
    run = {name: case[name] for name in KNOBS if name not in {"optimizer", "precision", "activation_checkpointing"}}
    run |= {"optimizer": optimizer, "weights_dtype": weights, "compute_dtype": "bfloat16" if autocast else weights}
    run |= {"activation_checkpointing": {"every_nth": 2} if checkpointing == "every second" else checkpointing}
    run |= {"optimizer_impl": implementation} if implementation else {}
    run |= {"freeze": {"trainable_layers": 1}} if case["method"] == "freeze" else {}
    return EstimateRequest.model_validate({"model": {"config": config}, "machine": {"device": DEVICE}, "run": run})
