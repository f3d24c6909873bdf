"""What the tests of dense families share: specs of published models and of changed ones, layers by index."""

from __future__ import annotations

from typing import Any

from planner.architecture.count import total
from planner.architecture.registry import read_config
from planner.architecture.spec import Attention, Layer, Mlp, ModelSpec, Parallel, Sublayer
from planner.catalog.models import all_models, model


def assert_published_counts(*model_types: str) -> None:
    """Every model of these types in the catalogue counts as the library builds it."""
    rows = [entry for entry in all_models() if entry.config["model_type"] in model_types]
    assert rows
    for entry in rows:
        spec, expected = read_config(entry.config), entry.meta_total or entry.meta_proxy_total
        assert expected is None or total(spec) + spec.phantoms == expected, entry.id


def spec_of(model_id: str, **changes: Any) -> ModelSpec:
    """A published model, with fields changed; None removes a field."""
    values = {**model(model_id).config, **changes}
    return read_config({name: value for name, value in values.items() if value is not None})


def layers_of(spec: ModelSpec) -> list[Layer]:
    """The text stack's layers, one by one."""
    return [run.layer for run in spec.text.runs for _ in range(run.count)]


def branches_of(layer: Layer) -> list[Sublayer]:
    """A layer's sublayers, those of parallel blocks one by one."""
    found: list[Sublayer] = []
    for sublayer in layer.sublayers:
        found.extend(sublayer.mixer.branches if isinstance(sublayer.mixer, Parallel) else [sublayer])
    return found


def attention_of(spec: ModelSpec, index: int = 0) -> Attention:
    """The first attention of a layer."""
    mixers = (sublayer.mixer for sublayer in branches_of(layers_of(spec)[index]))
    return next(mixer for mixer in mixers if isinstance(mixer, Attention))


def mlp_of(spec: ModelSpec, index: int = 0) -> Mlp:
    """The first MLP of a layer."""
    mixers = (sublayer.mixer for sublayer in branches_of(layers_of(spec)[index]))
    return next(mixer for mixer in mixers if isinstance(mixer, Mlp))


def windows_of(spec: ModelSpec) -> list[int | None]:
    """The sliding window of each layer."""
    return [attention_of(spec, index).window for index in range(spec.text.layer_count)]


def is_parallel(spec: ModelSpec) -> bool:
    """Whether the first layer sums attention and MLP of the same input."""
    return isinstance(layers_of(spec)[0].sublayers[0].mixer, Parallel)
