"""What a trainer's own model code does differently from transformers'.

torchtune, torchtitan and litgpt don't use transformers' classes: each has one model of its own for all families.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from planner.architecture.spec import Attention, Layer, Mixer, Mlp, ModelSpec, Module, Parallel

LITGPT_WORDS = {
    "q": "query", "query": "query", "k": "key", "key": "key", "v": "value", "value": "value",
    "projection": "projection", "mlp": "mlp", "head": "head",
}  # fmt: skip
"""The parts of a model that litgpt's switches lora_query, lora_key ... adapt (litgpt/finetune/lora.py)."""


def as_built_by(framework: str, spec: ModelSpec) -> ModelSpec:
    """The model as the framework's class holds it.

    litgpt adapts the parts of fused projections one by one and builds the embedding and the output head as two weights,
    whatever the checkpoint ties (litgpt/lora.py, litgpt/model.py GPT.__init__; finetuning never ties them).
    """
    return _as_litgpt(spec) if framework == "litgpt" else spec


@lru_cache(maxsize=256)
def _as_litgpt(spec: ModelSpec) -> ModelSpec:
    runs = tuple(replace(run, layer=_litgpt_layer(run.layer)) for run in spec.text.runs)
    return replace(spec, tied=False, text=replace(spec.text, runs=runs))


def _litgpt_layer(layer: Layer) -> Layer:
    return replace(layer, sublayers=tuple(replace(s, mixer=_litgpt_mixer(s.mixer)) for s in layer.sublayers))


def _litgpt_mixer(mixer: Mixer) -> Mixer:
    """The parts of a fused projection one by one, so that each can have an adapter of its own."""
    if isinstance(mixer, Parallel):
        return replace(mixer, branches=tuple(replace(b, mixer=_litgpt_mixer(b.mixer)) for b in mixer.branches))
    if isinstance(mixer, Attention) and mixer.qkv is not None:
        queries, keys = mixer.query_heads * mixer.head_dim, mixer.key_value_heads * mixer.head_dim
        q, k, v = _cut(mixer.qkv, {"q_proj": queries, "k_proj": keys, "v_proj": keys})
        return replace(mixer, qkv=None, q=q, k=k, v=v)
    if isinstance(mixer, Mlp) and mixer.gate_up is not None:
        gate, up = _cut(mixer.gate_up, {"gate_proj": mixer.intermediate, "up_proj": mixer.intermediate})
        return replace(mixer, gate_up=None, gate=gate, up=up)
    return mixer


def _cut(fused: Module, parts: dict[str, int]) -> list[Module]:
    stem = fused.name.rpartition(".")[0]
    return [
        replace(
            fused, name=f"{stem}.{name}" if stem else name, shape=(rows, fused.inputs), bias=rows if fused.bias else 0
        )
        for name, rows in parts.items()
    ]


TRAINER_WITH_AUTOCAST = frozenset({"axolotl", "llama_factory"})
"""They run transformers' Trainer and set `bf16` (or `fp16`) in each of their recipes, so that accelerate wraps the
forward pass in torch.autocast (accelerator.py, `prepare_model`) also where the weights are in 16 bit. Sources: axolotl
core/builders/base.py, `_configure_precision_settings`; LLaMA-Factory examples/train_lora and hparams/parser.py."""


def step_of(framework: str) -> str:
    """Whose training step a framework runs: its own, or transformers'."""
    return "transformers" if framework in TRAINER_WITH_AUTOCAST else framework


def autocasts_always(framework: str) -> bool:
    """Whether the step runs under torch.autocast whatever the dtype of the weights."""
    return framework in TRAINER_WITH_AUTOCAST


def adapter_dtype(framework: str, method: str, weights_dtype: str) -> str:
    """The dtype that adapters get when nobody says.

    torchtune (modules/peft/lora.py) and litgpt (litgpt/lora.py) make them in the model's dtype; trl converts them to
    bfloat16 under QLoRA (trainer/sft_trainer.py); peft keeps float32 (autocast_adapter_dtype).
    """
    if framework in {"torchtune", "litgpt"}:
        return weights_dtype
    return "bfloat16" if framework == "trl" and method == "qlora" else "float32"


def adapted_names(given: Sequence[str], spec: ModelSpec) -> tuple[str, ...]:
    """The names of the adapted modules, with litgpt's words put in the model's own names."""
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
