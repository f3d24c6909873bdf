"""Where a model drops activations in training: places whose probability is above 0.

The config says it, or the class's default where the config does not.

Source: transformers configuration files; the defaults are the classes'. Modern decoders set all of them to 0.
"""

from __future__ import annotations

from planner.architecture.config import Config
from planner.architecture.spec import DropoutPlace

Fields = dict[DropoutPlace, tuple[str, float]]
_GPT2: Fields = {"embedding": ("embd_pdrop", 0.1), "residual": ("resid_pdrop", 0.1), "attention": ("attn_pdrop", 0.1)}
_GPTJ: Fields = {"embedding": ("embd_pdrop", 0.0), "residual": ("resid_pdrop", 0.0), "attention": ("attn_pdrop", 0.0)}
_PHI: Fields = {
    "embedding": ("embd_pdrop", 0.0),
    "residual": ("resid_pdrop", 0.0),
    "attention": ("attention_dropout", 0.0),
}
_HIDDEN: Fields = {"residual": ("hidden_dropout", 0.0), "attention": ("attention_dropout", 0.0)}
_FAIRSEQ: Fields = {
    "embedding": ("dropout", 0.1),
    "residual": ("dropout", 0.1),
    "attention": ("attention_dropout", 0.1),
    "activation": ("activation_dropout", 0.0),
}
_BERT: Fields = {
    "embedding": ("hidden_dropout_prob", 0.1),
    "residual": ("hidden_dropout_prob", 0.1),
    "attention": ("attention_probs_dropout_prob", 0.1),
}
_T5: Fields = {
    "embedding": ("dropout_rate", 0.1),
    "residual": ("dropout_rate", 0.1),
    "attention": ("dropout_rate", 0.1),
    "activation": ("dropout_rate", 0.1),
}
_OTHERS: Fields = {"attention": ("attention_dropout", 0.0)}

PLACES: dict[str, Fields] = {
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "gptj": _GPTJ,
    "gpt_neo": {
        "embedding": ("embed_dropout", 0.0),
        "residual": ("resid_dropout", 0.0),
        "attention": ("attention_dropout", 0.0),
    },
    "gpt_neox": _HIDDEN,
    "bloom": _HIDDEN,
    "falcon": _HIDDEN,
    "stablelm": _HIDDEN,
    "phi": _PHI,
    "phi3": _PHI,
    "opt": {"residual": ("dropout", 0.1), "attention": ("attention_dropout", 0.0)},
    "xglm": _FAIRSEQ,
    "whisper": {
        "embedding": ("dropout", 0.0),
        "residual": ("dropout", 0.0),
        "attention": ("attention_dropout", 0.0),
        "activation": ("activation_dropout", 0.0),
    },
    "seed_oss": {"residual": ("residual_dropout", 0.1), "attention": ("attention_dropout", 0.1)},
    "starcoder2": {
        "embedding": ("embedding_dropout", 0.0),
        "residual": ("residual_dropout", 0.0),
        "attention": ("attention_dropout", 0.0),
    },
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "t5": _T5,
    "mt5": _T5,
}


def dropouts_of(config: Config, model_type: str) -> frozenset[DropoutPlace]:
    """The places where training drops something. A field that is no number counts as the class's default."""
    fields = PLACES.get(model_type, _OTHERS)
    return frozenset(place for place, (name, default) in fields.items() if _drops(config.values.get(name), default))


def _drops(value: object, default: float) -> bool:
    """Whether a probability is above 0; it is compared as it is, since a hostile integer has no float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return default > 0
    return value > 0
