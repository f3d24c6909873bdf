"""An answer as the result page reads it: addresses of the levers, the ledger by term, what was assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import ValidationError

from app.knobs import knobs_by_name
from app.web import address, charts
from planner.contract import Advice, Answer, EstimateRequest, LedgerRow

VERDICTS: Mapping[str, tuple[str, str]] = {
    "fits": ("Fits", "yes"),
    "tight": ("Tight", "maybe"),
    "does_not_fit": ("Does not fit", "no"),
    "unsupported": ("Not supported there", "no"),
    "not_modelled": ("Not modelled yet", "unknown"),
}
"""verdict -> the word and the tone, which names a colour and an icon."""


@dataclass(frozen=True, slots=True)
class Lever:
    """A change of the plan, as a link."""

    advice: Advice
    href: str
    compare: str

    @property
    def title(self) -> str:
        return self.advice.title or ", ".join(f"{name} {value}" for name, value in leaves(self.advice.change))


@dataclass(frozen=True, slots=True)
class LedgerGroup:
    """The rows of one term."""

    key: str
    label: str
    bytes: int
    rows: Sequence[LedgerRow]


@dataclass(frozen=True, slots=True)
class Assumed:
    """A value that nobody gave, and the input that changes it."""

    name: str
    label: str
    value: Any
    input: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that the result page shows."""

    answer: Answer
    query: str
    pairs: Mapping[str, str]
    edit: str
    compare: str
    carried: str
    model_name: str
    device_name: str
    fix: Lever | None
    levers: Sequence[Lever]
    bar: charts.Bar | None
    moments: Sequence[charts.MomentBar]
    ledger: Sequence[LedgerGroup]
    assumed: Sequence[Assumed]

    @property
    def word(self) -> str:
        return VERDICTS[self.answer.verdict][0]

    @property
    def tone(self) -> str:
        return VERDICTS[self.answer.verdict][1]


def result_of(answer: Answer, *, config_hash: str | None, model_name: str, device_name: str) -> Result:
    """The result page's view of an answer."""
    query = address.query(answer.request, config_hash)
    levers = [lever for item in answer.advice if (lever := _lever(answer.request, item, config_hash)) is not None]
    memory = answer.memory
    fix = next((lever for lever in levers if lever.advice.makes_it_fit), None) if answer.verdict != "fits" else None
    return Result(
        answer=answer,
        query=query,
        pairs=address.pairs_of(answer.request, config_hash),
        edit=f"/?{query}",
        compare=address.comparison([query]),
        carried=address.carried([query]),
        model_name=model_name,
        device_name=device_name,
        fix=fix,
        levers=[lever for lever in levers if lever is not fix],
        bar=charts.memory_bar(memory) if memory else None,
        moments=charts.moment_bars(memory.device) if memory else [],
        ledger=_ledger(answer),
        assumed=[_assumed(name, value) for name, value in leaves(answer.assumed)],
    )


def _lever(request: EstimateRequest, advice: Advice, config_hash: str | None) -> Lever | None:
    href = changed_address(request, advice.change, config_hash)
    if href is None:
        return None
    here, there = address.query(request, config_hash), href.removeprefix("/plan?")
    return Lever(advice, href, address.comparison([here, there]))


def changed_address(request: EstimateRequest, change: Mapping[str, Any], config_hash: str | None) -> str | None:
    """The address of a changed plan; a change that is no plan (it cannot be) has none."""
    try:
        changed = EstimateRequest.model_validate(merge_patch(request.model_dump(mode="json"), change))
    except ValidationError:
        return None
    kept = config_hash if changed.model.config is not None else None
    return f"/plan?{address.query(changed, kept)}"


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged: dict[str, Any] = dict(target) if isinstance(target, Mapping) else {}  # pyright: ignore[reportUnknownArgumentType]
    for name, value in patch.items():  # pyright: ignore[reportUnknownVariableType]
        if value is None:
            merged.pop(name, None)  # pyright: ignore[reportUnknownArgumentType]
        else:
            merged[name] = merge_patch(merged.get(name), value)  # pyright: ignore[reportUnknownArgumentType]
    return merged


def _ledger(answer: Answer) -> list[LedgerGroup]:
    if answer.memory is None:
        return []
    device = answer.memory.device
    return [
        LedgerGroup(key, charts.TERM_LABELS[key], size, [row for row in device.ledger if row.term == key])
        for key, size in device.terms.model_dump().items()
        if size or any(row.term == key for row in device.ledger)
    ]


def leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """dotted name -> value of everything in nested objects."""
    found: list[tuple[str, Any]] = []
    for name, value in tree.items():
        nested = isinstance(value, Mapping) and len(value) > 0  # pyright: ignore[reportUnknownArgumentType]
        found += leaves(cast("Mapping[str, Any]", value), f"{prefix}{name}.") if nested else [(prefix + name, value)]
    return found


def _assumed(name: str, value: Any) -> Assumed:
    """An assumption, named as the form names it."""
    short = name.removeprefix("run.").removeprefix("machine.")
    known = knobs_by_name().get(short)
    return Assumed(name, known.label if known else name, value, f"knob-{short}" if known else None)
