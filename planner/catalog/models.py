"""The catalogue of models: published configurations with the counts that were published and measured for them.

`models.jsonl` holds one model per line; docs of its fields stand in `CatalogModel`. It is read once, on first use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

MAXIMUM_PAGE = 200


class UnknownModel(LookupError):
    """No model of the catalogue has this id."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an explained difference: what it is and how many parameters it adds to the count."""

    what: str
    params: int


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """One published model.

    `published` is the count that its publisher or the Hub shows, `published_kind` says whether it is an exact integer
    or a rounded claim. `meta_total` is the number of unique parameters of the library's own class built on the meta
    device (`meta_class`, `meta_transformers`); `meta_proxy_total` is that of a class of the same shape where the
    library has none for this model_type. `reconciliation` explains published - meta, `explained` what
    remains.
    """

    id: str
    family: str
    kind: str
    config: Mapping[str, Any]
    license: str | None
    published: int | None
    published_kind: str | None
    meta_total: int | None
    meta_proxy_total: int | None
    meta_active: int | None
    meta_embedding: int | None
    meta_routed_experts: int | None
    meta_vision: int | None
    meta_class: str | None
    meta_transformers: str | None
    reconciliation: tuple[Part, ...]
    explained: str | None
    config_provenance: str
    source: str
    note: str | None

    @property
    def size(self) -> int:
        """Parameters for lists: counted where they were, without phantoms; else published, else 0."""
        phantoms = sum(part.params for part in self.reconciliation if part.what.startswith("phantom"))
        return (self.meta_total or self.meta_proxy_total or self.published or 0) + phantoms


@dataclass(frozen=True, slots=True)
class Page:
    """Some models of a search; `next_cursor` asks for the following ones, None at the end."""

    items: tuple[CatalogModel, ...]
    next_cursor: str | None


@cache
def _by_key() -> dict[str, CatalogModel]:
    text = files("planner.catalog").joinpath("models.jsonl").read_text(encoding="utf-8")
    models = [_model_of(json.loads(line)) for line in text.splitlines()]
    _by_config.update((id(model.config), model.id) for model in models)
    return {model.id.casefold(): model for model in models}


_by_config: dict[int, str] = {}
"""The id of the model that a configuration of the catalogue belongs to, by the object's identity: they are read once,
are never changed and live as long as the process."""


def catalogued_id(config: Mapping[str, Any]) -> str | None:
    """The id of the model whose entry of the catalogue this very object is part of; an equal copy has none."""
    return _by_config.get(id(config))


def _model_of(row: dict[str, Any]) -> CatalogModel:
    return CatalogModel(
        id=row["id"],
        family=row["family"],
        kind=row["kind"],
        config=row["config"],
        license=row.get("license"),
        published=row.get("params_total_official"),
        published_kind=row.get("params_total_official_kind"),
        meta_total=row.get("params_total_meta"),
        meta_proxy_total=row.get("params_total_meta_proxy"),
        meta_active=row.get("params_active_meta"),
        meta_embedding=row.get("params_embedding_meta"),
        meta_routed_experts=row.get("params_routed_experts_meta"),
        meta_vision=row.get("params_vision_meta"),
        meta_class=row.get("meta_class"),
        meta_transformers=row.get("transformers_version"),
        reconciliation=tuple(Part(part["what"], part["params"]) for part in row.get("reconciliation", ())),
        explained=row.get("explained"),
        config_provenance=row["config_provenance"],
        source=row["source"],
        note=row.get("note"),
    )


def all_models() -> Sequence[CatalogModel]:
    """Every model, in the order of the file."""
    return tuple(_by_key().values())


def model(model_id: str) -> CatalogModel:
    """The model with this id, upper and lower case alike.

    Raises:
        UnknownModel: no model has this id; parts of an id are not guessed.
    """
    found = _by_key().get(model_id.casefold())
    if found is None:
        raise UnknownModel(model_id)
    return found


def nearest_models(model_id: str, limit: int = 3) -> tuple[str, ...]:
    """Ids of the catalogue whose spelling is close: of the whole id, else of the name after the slash."""
    asked = model_id[:128].strip().casefold()
    by_name = {key.rpartition("/")[2]: key for key in _by_key()}
    whole = get_close_matches(asked, list(_by_key()), n=limit, cutoff=0.7)
    names = get_close_matches(asked.rpartition("/")[2], list(by_name), n=limit, cutoff=0.7)
    keys = dict.fromkeys([*whole, *(by_name[name] for name in names)])
    return tuple(_by_key()[key].id for key in keys)[:limit]


def find_models(query: str = "", limit: int = 50, cursor: str | None = None) -> Page:
    """Models whose id or family holds every word of `query`, in the order of the file.

    `cursor` is the id of the last model of the page before.

    Raises:
        UnknownModel: `cursor` is not the id of a model.
        ValueError: `limit` is not between 1 and MAXIMUM_PAGE.
    """
    if not 1 <= limit <= MAXIMUM_PAGE:
        raise ValueError(f"limit is {limit}; accepted: 1 to {MAXIMUM_PAGE}")
    words = query.casefold().split()
    found = [entry for entry in all_models() if all(word in f"{entry.id} {entry.family}".casefold() for word in words)]
    if cursor is not None:
        order = {entry.id: position for position, entry in enumerate(all_models())}
        last = order[model(cursor).id]
        found = [entry for entry in found if order[entry.id] > last]
    items = tuple(found[:limit])
    return Page(items, items[-1].id if len(found) > limit else None)


def siblings(model_id: str) -> Sequence[CatalogModel]:
    """Smaller models of the same family, largest first.

    Raises:
        UnknownModel: no model has this id.
    """
    own = model(model_id)
    smaller = [entry for entry in all_models() if entry.family == own.family and 0 < entry.size < own.size]
    return tuple(sorted(smaller, key=lambda entry: entry.size, reverse=True))
