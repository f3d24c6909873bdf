"""Qwen3, dense: QK norms instead of Qwen2's biases, and a head width of its own.

Source: transformers models/qwen3; arXiv 2505.09388.
"""

from __future__ import annotations

from planner.architecture.blocks import decoder, filled
from planner.architecture.config import Config
from planner.architecture.families.qwen2 import qwen_layers
from planner.architecture.reader import Reader
from planner.architecture.spec import Layer, ModelSpec

CLASS_HEAD_DIM = 128


def qwen3_layers(config: Config) -> list[Layer]:
    """RMSNorm over each head of q and k; `attention_bias` puts biases on all four projections."""
    config = filled(config, head_dim=CLASS_HEAD_DIM)
    bias = config.flag("attention_bias", False)
    return qwen_layers(config, qkv_bias=bias, output_bias=bias, qk_norm=True)


def read_qwen3(config: Config) -> ModelSpec:
    """model_type qwen3."""
    return decoder(config, qwen3_layers(config))


READERS: dict[str, Reader] = {"qwen3": read_qwen3}
