"""A document is closed: what does not hold together is refused, and the fault is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from planner.corpus import DocumentError, left_out, measured_runs, read_document
from planner.corpus.document import MAXIMUM_DOCUMENT_BYTES

DOCUMENT: dict[str, Any] = {
    "id": "mine-1",
    "publisher": "me",
    "source": "a run of mine",
    "status": "verified",
    "request": {"model": {"id": "openai-community/gpt2"}, "machine": {"device": "nvidia-rtx-4090-24gb"}},
    "peaks": [{"kind": "allocated", "bytes": 1 << 30}],
}


def test_a_document_is_read() -> None:
    run = read_document(json.dumps(DOCUMENT))
    assert run.is_faithful
    assert run.peak("allocated") == 1 << 30
    assert run.peak("process") is None


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"peaks": []}, "peaks"),
        ({"peaks": [{"kind": "allocated", "bytes": 0}]}, "peaks.0.bytes"),
        ({"peaks": [{"kind": "allocated", "bytes": 1.5}]}, "peaks.0.bytes"),
        ({"peaks": [{"kind": "nvidia-smi", "bytes": 1}]}, "peaks.0.kind"),
        ({"peaks": [{"kind": "allocated", "bytes": 1}] * 2}, "one peak of each kind"),
        ({"tokens_per_second": -1}, "tokens_per_second"),
        ({"id": "../../etc/passwd"}, "id"),
        ({"id": ""}, "id"),
        ({"colour": "red"}, "colour"),
        ({"schema_version": 2}, "schema_version"),
        ({"completeness": "partial"}, "unknown"),
        ({"unknown": ["run.optimizer"]}, "unknown"),
        ({"completeness": "partial", "unknown": ["anything"]}, "unknown.0"),
        ({"bound": "at_least"}, "bound"),
        ({"request": {"model": {"id": "a"}, "machine": {"device": "this-machine"}}}, "this-machine"),
        ({"request": {"model": {"id": "a"}, "run": {"no_such": 1}}}, "request.run.no_such"),
        ({"note": "x" * 5000}, "note"),
        ({"peaks": [], "tokens_per_second": None, "outcome": "finished"}, "outcome"),
    ],
)
def test_what_does_not_hold_together_is_refused_by_name(change: dict[str, Any], names: str) -> None:
    with pytest.raises(DocumentError, match=names.replace(".", r"\.")):
        read_document(json.dumps(DOCUMENT | change))


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{", "NaN", '{"id": NaN}', "[" * 5000, b"\xff\xfe", '"' + "x" * MAXIMUM_DOCUMENT_BYTES + '"'],
)
def test_hostile_text_is_refused_with_a_sentence(text: str | bytes) -> None:
    with pytest.raises(DocumentError):
        read_document(text)


def test_a_run_that_ran_out_of_memory_needs_no_figure() -> None:
    run = read_document(json.dumps(DOCUMENT | {"peaks": [], "outcome": "out_of_memory"}))
    assert run.outcome == "out_of_memory"


def test_the_catalogue_holds_each_row_once_and_says_where_it_is_from() -> None:
    runs = measured_runs()
    names = [run.id for run in runs] + [row.id for row in left_out()]
    assert len(names) == len(set(names))
    assert all(run.source and run.status == "verified" for run in runs)
    assert all(row.reason for row in left_out())
    departing = [run for run in runs if run.departure in {"other_release", "other_framework"}]
    assert departing
    assert all(run.explanation for run in departing)


def test_a_full_row_that_departs_in_nothing_leaves_nothing_unknown() -> None:
    for run in measured_runs():
        assert run.is_faithful == (not run.unknown and run.departure == "none")
