"""A plan as an address: every value that differs from the contract's default, in the contract's order.

`/plan?v=1&model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb&method=qlora`. A pasted configuration is named by
the hash of its canonical JSON (`config=…`), a model of the Hub by its id and commit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final
from urllib.parse import quote

from app.knobs import flatten, knobs_by_name, unflatten
from app.problems import Problem, shorten
from app.refusals import listed
from planner.contract import SCHEMA_VERSION, EstimateRequest

_MODEL_NAMES = ("model", "revision", "config")


@dataclass(frozen=True, slots=True)
class Address:
    """What an address says: the values of machine and run, and which model."""

    flat: Mapping[str, str]
    model_id: str | None
    revision: str | None
    config_hash: str | None

    def values(self, config: Mapping[str, Any] | None) -> dict[str, Any]:
        """The request's JSON values; `config` is the stored configuration when a hash names one."""
        reference: dict[str, Any] = {"config": config} if config is not None else {"id": self.model_id}
        if self.revision:
            reference["revision"] = self.revision
        return {"model": reference, **unflatten(self.flat)}


def parse(pairs: Iterable[tuple[str, str]]) -> Address:
    """What the pairs of a query string say.

    Raises:
        Problem: another version than ours, or a name that is none of a plan.
    """
    flat = {name: text for name, text in pairs if text.strip()}
    version = flat.pop("v", str(SCHEMA_VERSION))
    if version != str(SCHEMA_VERSION):
        raise Problem("invalid_request", "the address is of another version", field="v", value=version, accepted="1")
    model_id, revision, config_hash = (flat.pop(name, "").strip() or None for name in _MODEL_NAMES)
    for name, text in flat.items():
        _refuse_unknown(name, text)
    return Address(flat, model_id, revision, config_hash)


def _refuse_unknown(name: str, text: str) -> None:
    """A name that is no knob is refused with those that are spelled alike, of more than 60."""
    known = knobs_by_name()
    if name not in known:
        near = get_close_matches(name[:64], (*_MODEL_NAMES, *known), n=3, cutoff=0.5)
        accepted = listed(near) if near else "the names that the addresses of plans have, such as method"
        detail = f"`{shorten(name)}` is nothing that a plan's address says; accepted: {accepted}"
        raise Problem("invalid_request", detail, field=str(shorten(name)), value=text, accepted=accepted)


def query(request: EstimateRequest, config_hash: str | None = None) -> str:
    """The canonical query string of a request."""
    pairs = pairs_of(request, config_hash)
    return "&".join(f"{quote(name, safe='.')}={quote(text, safe='/,.')}" for name, text in pairs.items())


def pairs_of(request: EstimateRequest, config_hash: str | None = None) -> dict[str, str]:
    """The names and texts of a request's address, in its order."""
    pairs: dict[str, str] = {"v": str(SCHEMA_VERSION)}
    if request.model.id is not None:
        pairs["model"] = request.model.id
    if config_hash is not None:
        pairs["config"] = config_hash
    if request.model.revision is not None:
        pairs["revision"] = request.model.revision
    pairs.update(flatten(request))
    return pairs


def sized(request: EstimateRequest, config_hash: str | None) -> Callable[[int, int], str]:
    """Query strings of one plan at other micro-batches and sequence lengths, without writing each anew."""
    run = request.run.model_copy(update={"micro_batch_size": 1, "sequence_length": 1})
    template = query(request.model_copy(update={"run": run}), config_hash)
    sizes = re.compile(r"(?<=&)(micro_batch_size|sequence_length)=1(?=&|$)")

    def at(batch: int, sequence: int) -> str:
        values = {"micro_batch_size": batch, "sequence_length": sequence}
        return sizes.sub(lambda found: f"{found[1]}={values[found[1]]}", template)

    return at


VERIFIED: Final = "&evidence=verified"
"""Behind a plan's query in a comparison: its verified answer, not its estimate."""
JOB: Final = "job="
"""Before the id of a job in a comparison: what the job found, about the plan that it was given."""


def evidence_of(query: str) -> tuple[str | None, str, bool]:
    """The job that a plan of a comparison comes from, the plan's own query, and whether it is verified."""
    if query.startswith(JOB):
        return query.removeprefix(JOB), "", False
    return None, query.removesuffix(VERIFIED), query.endswith(VERIFIED)


def carried(queries: Iterable[str]) -> str:
    """Plans that the form of one plan carries along, so that its answer is put beside them."""
    return "&".join(f"with={quote(query, safe='/.,')}" for query in queries)


def comparison(queries: Iterable[str], baseline: int = 0, *, only_differences: bool = False) -> str:
    """The address of a comparison of plans, each given by its query string."""
    plans = [f"plan={quote(query, safe='/.,')}" for query in queries]
    view = [f"baseline={baseline}"] if baseline else []
    return "/compare?" + "&".join([*plans, *view, *(["only=differences"] if only_differences else [])])
