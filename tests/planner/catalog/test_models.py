"""The catalogue of models, and the table test: every model of it counts exactly, or its row says why not."""

from __future__ import annotations

import pytest

from planner.architecture.count import active, by_component, total
from planner.architecture.registry import read_config, readers
from planner.catalog.models import (
    CatalogModel,
    UnknownModel,
    all_models,
    find_models,
    model,
    siblings,
)

MODELS = all_models()
ROUNDING = 0.035  # a claim such as 7.4B against a count


def exact_total(entry: CatalogModel) -> int | None:
    """The library's own count, or that of a class of the same shape, or the published integer where neither builds."""
    published = entry.published if entry.published_kind == "exact" else None
    return entry.meta_total or entry.meta_proxy_total or published


def test_every_model_type_of_the_catalogue_has_a_reader() -> None:
    assert {entry.config["model_type"] for entry in MODELS} <= set(readers())


@pytest.mark.parametrize("entry", MODELS, ids=lambda entry: entry.id)
def test_every_model_counts_exactly_or_its_row_says_why_not(entry: CatalogModel) -> None:
    spec = read_config(entry.config)
    counts = by_component(spec)
    assert sum(counts.values()) == total(spec)
    expected = exact_total(entry)
    if expected is None:
        assert entry.explained
        assert entry.published is not None
        assert abs(total(spec) / entry.published - 1) < ROUNDING
        return
    assert total(spec) + spec.phantoms == expected
    assert entry.meta_embedding in (None, spec.embeddings[0].elements)
    towers = counts.get("vision", 0) + (counts.get("audio", 0) if entry.kind == "vision-language" else 0)
    assert entry.meta_vision in (None, towers)
    assert entry.meta_active in (None, active(spec))


def test_every_published_integer_is_met_or_reconciled() -> None:
    for entry in MODELS:
        expected = exact_total(entry)
        if entry.published_kind != "exact" or entry.published is None or expected is None:
            continue
        explained = sum(part.params for part in entry.reconciliation)
        assert expected + explained == entry.published or entry.explained, entry.id


SILENT_ABOUT_MTP = {  # their configs hold no field that says how many prediction layers the checkpoint has
    "Qwen/Qwen3-Next-80B-A3B-Instruct",
    "zai-org/GLM-4.7-Flash",
    "baidu/ERNIE-4.5-300B-A47B-PT",
}
MTP_ROWS = [
    entry
    for entry in MODELS
    if any(part.what.startswith("MTP") and "split" not in part.what for part in entry.reconciliation)
]


@pytest.mark.parametrize("entry", MTP_ROWS, ids=lambda entry: entry.id)
def test_prediction_layers_add_what_the_checkpoint_has_more(entry: CatalogModel) -> None:
    stored = sum(part.params for part in entry.reconciliation if part.what.startswith("MTP"))
    assert read_config(entry.config).mtp_parameters == (0 if entry.id in SILENT_ABOUT_MTP else stored)


def test_few_rows_need_words_beside_their_sums() -> None:
    assert len([entry for entry in MODELS if entry.explained]) <= 5


def test_ids_are_unique_and_found_in_any_case() -> None:
    assert len({entry.id.casefold() for entry in MODELS}) == len(MODELS)
    assert model("QWEN/qwen3-0.6b").id == "Qwen/Qwen3-0.6B"


def test_part_of_an_id_is_not_guessed() -> None:
    with pytest.raises(UnknownModel):
        model("Qwen3-0.6B")


def test_search_wants_every_word() -> None:
    found = find_models("qwen3 8b").items
    assert found
    assert all("qwen3" in f"{entry.id} {entry.family}".lower() and "8b" in entry.id.lower() for entry in found)
    assert find_models("no-such-model").items == ()


def test_pages_join_to_the_whole() -> None:
    seen: list[str] = []
    cursor = None
    while True:
        page = find_models("", limit=100, cursor=cursor)
        seen += [entry.id for entry in page.items]
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
    assert seen == [entry.id for entry in MODELS]


@pytest.mark.parametrize("limit", [0, -1, 10_000])
def test_limit_has_bounds(limit: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        find_models("", limit=limit)


def test_siblings_are_smaller_and_of_the_family() -> None:
    found = siblings("meta-llama/Llama-3.1-70B")
    own = model("meta-llama/Llama-3.1-70B")
    assert [entry.size for entry in found] == sorted((entry.size for entry in found), reverse=True)
    assert all(entry.family == own.family and entry.size < own.size for entry in found)
