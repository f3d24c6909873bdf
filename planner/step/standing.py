"""What the model's own code holds beside its layers: the batch, cos and sin, masks."""

from __future__ import annotations

from collections import Counter

from planner.architecture.spec import Attention, LatentAttention, Layer, ModelSpec, mixers
from planner.step.player import INDEX
from planner.step.rules import StepRules
from planner.step.simulate import Live
from planner.step.sizes import TOKENS, S, above
from planner.step.tape import StorageClass
from planner.step.variants import variant_of


def always_alive(spec: ModelSpec, rules: StepRules) -> Live:
    """Alive during the whole step: the batch (ids, labels, mask) and, with RoPE, the model's cos and sin tables."""
    live: Live = Counter({StorageClass("input ids, labels, mask", TOKENS * INDEX, "temporaries"): 3})
    rotary = max((_rotary_width(run.layer) for run in spec.text.runs), default=0)
    variant = variant_of(spec, rules.framework)
    if rotary:
        width = 4 if variant.float32_tables or variant.rope == "complex" else rules.weights_width
        table = StorageClass("cos, sin", S * (rotary * width), "activations")
        live[table] = 1 if variant.rope == "complex" else 2 * variant.rope_kinds
    return live


def mask_storages(spec: ModelSpec, rules: StepRules) -> Live:
    """The masks [1, 1, s, s] that the model makes for its layers: one for each kind of layer.

    Eager attention adds numbers in the weights' dtype. sdpa takes none for causal attention and, for a window, a
    boolean one as soon as the sequence is as long as the window (transformers/masking_utils.py).
    """
    windows = {window for run in spec.text.runs for window in _windows(run.layer)}
    live: Live = Counter()
    square = S * S
    if rules.kernel == "eager" or not variant_of(spec, rules.framework).sdpa:
        kinds = 1 if variant_of(spec, rules.framework).scores == "float32" else len(windows)
        return Counter({StorageClass("mask", square * rules.weights_width, "temporaries"): kinds})
    if rules.kernel == "fused":
        for window in windows:
            if window is not None:
                live[StorageClass("boolean mask", square * above(window - 1), "temporaries")] += 1
    return live


def _windows(layer: Layer) -> set[int | None]:
    return {mixer.window for mixer in mixers(layer) if isinstance(mixer, Attention)}


def _rotary_width(layer: Layer) -> int:
    for mixer in mixers(layer):
        if isinstance(mixer, Attention) and mixer.position == "rope":
            return mixer.rotary_dim or mixer.head_dim
        if isinstance(mixer, LatentAttention):
            return mixer.rope_dim
    return 0
