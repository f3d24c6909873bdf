"""MiMo 7B: Qwen2's block and a layer that predicts a second token, which is in the checkpoint but is not trained.

Source: the checkpoints' modeling_mimo.py (not in transformers); arXiv 2505.07608.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder
from planner.architecture.config import Config
from planner.architecture.experts import mtp_elements, mtp_note, prediction_depth
from planner.architecture.families.qwen2 import qwen_layers
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec


def read_mimo(config: Config) -> ModelSpec:
    """model_type mimo: `attention_bias` for q, k and v."""
    layers = qwen_layers(config, qkv_bias=config.flag("attention_bias", True))
    spec = decoder(config, layers)
    depth = prediction_depth(config)
    if not depth or not layers:
        return spec
    elements = depth * mtp_elements(layers[-1], spec.hidden)
    return replace(spec, mtp_parameters=elements, notes=mtp_note(elements))


READERS: dict[str, Reader] = {"mimo": read_mimo}
