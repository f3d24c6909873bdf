"""Gemma 3 with its vision tower (4B, 12B, 27B).

Source: transformers models/gemma3; arXiv 2503.19786.
"""

from __future__ import annotations

from planner.architecture.config import Config
from planner.architecture.families.gemma import read_gemma3_text
from planner.architecture.families.siglip import siglip_tower
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec, parameter, rms_norm
from planner.architecture.vision import with_tower


def read_gemma3(config: Config) -> ModelSpec:
    """model_type gemma3: SigLIP, then a norm and a bare projection [vision width, text width]."""
    spec = read_gemma3_text(config.section("text_config"), top=config)
    vision = config.section("vision_config")
    width = vision.integer("hidden_size")
    projector = (
        rms_norm("mm_soft_emb_norm", width),
        parameter("mm_input_projection_weight", (width, spec.hidden), "vision"),
    )
    return with_tower(spec, siglip_tower(vision, projector))


READERS: dict[str, Reader] = {"gemma3": read_gemma3}
