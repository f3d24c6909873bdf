"""What a trainer's own model code does differently from transformers'.

torchtune, torchtitan and litgpt don't use transformers' classes: each has one model of its own for all families.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from planner.architecture.spec import Attention, Mixer, Mlp, ModelSpec, Module, Parallel

LITGPT_WORDS = {
    "q": "query", "query": "query", "k": "key", "key": "key", "v": "value", "value": "value",
    "projection": "projection", "mlp": "mlp", "head": "head",
}  # fmt: skip
"""The parts of a model that litgpt's switches lora_query, lora_key ... adapt (litgpt/finetune/lora.py)."""


def as_built_by(framework: str, spec: ModelSpec) -> ModelSpec:
    """The model as the framework's class holds it.

    litgpt builds the embedding and the output head as two weights whatever the checkpoint ties (litgpt/model.py
    GPT.__init__; finetuning never ties them).
    """
    return replace(spec, tied=False) if framework == "litgpt" and spec.tied else spec


def adapted_names(given: Sequence[str], spec: ModelSpec) -> tuple[str, ...]:
    """The names of the adapted modules, with litgpt's words put in the model's own names.

    A fused projection is adapted as a whole as soon as one of its parts is.
    """
    names: dict[str, None] = {}
    for name in given:
        word = LITGPT_WORDS.get(name)
        names |= dict.fromkeys((name,) if word is None else _of_word(word, spec))
    return tuple(names)


def _of_word(word: str, spec: ModelSpec) -> Iterator[str]:
    if word == "head":
        found: list[Module | None] = [spec.lm_head]
    else:
        found = [module for block in _mixers(spec) for module in _parts(word, block)]
    return (module.name.rsplit(".", 1)[-1] for module in found if module is not None)


def _mixers(spec: ModelSpec) -> Iterator[Mixer]:
    for run in spec.text.runs:
        for sublayer in run.layer.sublayers:
            mixer = sublayer.mixer
            yield from (branch.mixer for branch in mixer.branches) if isinstance(mixer, Parallel) else (mixer,)


def _parts(word: str, block: Mixer) -> tuple[Module | None, ...]:
    if isinstance(block, Mlp) and word == "mlp":
        return (block.gate, block.up, block.gate_up, block.down)
    if not isinstance(block, Attention):
        return ()
    by_word = {"query": (block.q, block.qkv), "key": (block.k, block.qkv), "value": (block.v, block.qkv)}
    return by_word.get(word, (block.o,) if word == "projection" else ())
