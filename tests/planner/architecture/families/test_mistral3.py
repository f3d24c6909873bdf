from __future__ import annotations

import pytest

from planner.architecture.config import UnknownModelType
from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("mistral3")


def test_an_unsaid_tie_is_made_by_the_library_and_noted() -> None:
    spec = spec_of("mistralai/Mistral-Small-3.2-24B-Instruct-2506")
    assert spec.tied
    idle = ("towers_idle", 438_958_080)
    assert [(note.code, note.parameters) for note in spec.notes] == [("library_ties_untied_head", 671_088_640), idle]
    untied = spec_of("mistralai/Mistral-Small-3.2-24B-Instruct-2506", tie_word_embeddings=False)
    assert [(note.code, note.parameters) for note in untied.notes] == [idle]


def test_another_text_model_is_not_guessed() -> None:
    with pytest.raises(UnknownModelType, match="mistral or ministral3"):
        spec_of("mistralai/Mistral-Small-3.2-24B-Instruct-2506", text_config={"model_type": "mistral9"})
