"""`trainfit measurements`: the measured runs that predictions are held against."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from app.cli.console import Console

if TYPE_CHECKING:
    from app.measurements import Measurements
    from planner.corpus import MeasuredRun

USAGE = "trainfit measurements list | show ID | validate FILE ... | add FILE ... | from-job FILE | export [ID ...]"
EPILOG = """\
  list              every run: id, what was measured, status
  show ID           one document
  validate FILE     whether each line, or the whole file, is a document; `-` reads standard input
  add FILE          store them here, in the data folder (TRAINFIT_DATA_DIR); all or none
  from-job FILE     a measuring job as GET /api/v1/jobs/ID shows it, as a pending document for `add`
  export [ID ...]   the runs stored here as JSON Lines, which `add` takes on another installation

A document says which run in the words of a request, what was measured and how, by whom and with what. It is `pending`
until somebody sets `status` to verified or rejected; only verified ones are scored (trainfit evaluate --mine)."""
MAXIMUM_FILE_BYTES: Final = 64 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An action with its names."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", prog="trainfit measurements")
    listing = actions.add_parser("list", help="every run: id, what was measured, status")
    listing.add_argument("--mine", action="store_true", help="only what is stored here")
    listing.add_argument("--json", action="store_true", help="one document a line")
    actions.add_parser("show", help="one document").add_argument("names", nargs="+", metavar="ID")
    actions.add_parser("validate", help="whether files hold documents").add_argument("names", nargs="+", metavar="FILE")
    adding = actions.add_parser("add", help="store documents here; all or none")
    adding.add_argument("names", nargs="+", metavar="FILE")
    adding.add_argument("--replace", action="store_true", help="take the place of a document with the same id")
    from_job = actions.add_parser("from-job", help="a measuring job of this machine as a pending document")
    from_job.add_argument("names", nargs=1, metavar="FILE", help="the job as GET /api/v1/jobs/ID shows it; - reads it")
    from_job.add_argument("--publisher", required=True, help="who measured; all that one publishes is one source")
    actions.add_parser("export", help="the runs stored here").add_argument("names", nargs="*", metavar="ID")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Do it; 0, or 2 where an id, a file or a document is wrong."""
    from app.measurements import Measurements
    from app.settings import Settings
    from planner.corpus import DocumentError

    store = Measurements(Settings().data_dir)
    actions = {
        "list": _list,
        "show": _show,
        "validate": _validate,
        "add": _add,
        "from-job": _from_job,
        "export": _export,
    }
    try:
        return actions[arguments.action](arguments, store, console)
    except DocumentError as error:
        console.complain(f"error: {error}")
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:
        console.complain(f"error: the data folder cannot be used: {error}")
        return 2


def _list(arguments: argparse.Namespace, store: Measurements, console: Console) -> int:
    from planner.corpus import measured_runs

    published = () if arguments.mine else measured_runs()
    for document in (*published, *store.all()):
        console.write(document.model_dump_json(exclude_unset=True) if arguments.json else _line(document))
    return 0


def _line(document: MeasuredRun) -> str:
    from planner.units import format_bytes

    figures = [f"{peak.kind} {format_bytes(peak.bytes)}" for peak in document.peaks]
    if document.tokens_per_second is not None:
        figures.append(f"{document.tokens_per_second:,.0f} tokens/s")
    if document.outcome == "out_of_memory":
        figures.append("ran out of memory")
    return f"{document.status:9} {document.completeness:8} {document.id}: {', '.join(figures)}"


def _show(arguments: argparse.Namespace, store: Measurements, console: Console) -> int:
    for name in arguments.names:
        document = store.get(name)
        if document is None:
            console.complain(f"error: no measured run has the id {name!r}; `trainfit measurements list` names them")
            return 2
        console.write(document.model_dump_json(exclude_unset=True, indent=2))
    return 0


def _validate(arguments: argparse.Namespace, _: Measurements, console: Console) -> int:
    count = len(_documents(arguments.names, console))
    console.write(f"{count} valid {'document' if count == 1 else 'documents'}")
    return 0


def _add(arguments: argparse.Namespace, store: Measurements, console: Console) -> int:
    documents = _documents(arguments.names, console)
    for document in documents:
        store.check(document, replace=arguments.replace)
    for document in documents:
        store.add(document, replace=arguments.replace)
        console.write(f"added {document.id}, {document.status}")
    return 0


def _from_job(arguments: argparse.Namespace, _: Measurements, console: Console) -> int:
    from pydantic_core import from_json

    from app.measurements import document_of_job
    from planner.corpus import DocumentError

    (name,) = arguments.names
    try:
        values = from_json(_content(name, console), allow_inf_nan=False)
    except ValueError as error:
        raise DocumentError(f"{name}: not JSON: {error}") from error
    document = document_of_job(values, arguments.publisher)
    console.write(document.model_dump_json(exclude_unset=True))
    return 0


def _export(arguments: argparse.Namespace, store: Measurements, console: Console) -> int:
    wanted = set(arguments.names)
    found = [document for document in store.all() if not wanted or document.id in wanted]
    missing = wanted - {document.id for document in found}
    if missing:
        console.complain(f"error: not stored here: {', '.join(sorted(missing))}")
        return 2
    for document in found:
        console.write(document.model_dump_json(exclude_unset=True))
    return 0


def _documents(names: list[str], console: Console) -> list[MeasuredRun]:
    return [document for name in names for document in _documents_of(name, console)]


def _documents_of(name: str, console: Console) -> Iterator[MeasuredRun]:
    """One document, or one a line.

    Raises:
        DocumentError: it names the file and the line.
    """
    from planner.corpus import DocumentError, read_document

    text = _content(name, console)
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise DocumentError(f"{name}: the file is empty")
    if lines[0][1].strip() in {"{", "["} or len(lines) == 1:
        lines = [(lines[0][0], text)]
    for number, line in lines:
        try:
            yield read_document(line)
        except DocumentError as error:
            raise DocumentError(f"{name}, line {number}: {error}") from error


def _content(name: str, console: Console) -> str:
    from planner.corpus import DocumentError

    try:
        text = console.source.read(MAXIMUM_FILE_BYTES + 1) if name == "-" else _text(Path(name))
    except UnicodeDecodeError as error:
        raise DocumentError(f"{'standard input' if name == '-' else name}: not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise DocumentError(f"{name} cannot be read: {error.strerror}") from error
    if len(text) > MAXIMUM_FILE_BYTES:
        raise DocumentError(f"{name}: more than {MAXIMUM_FILE_BYTES >> 20} MiB")
    return text


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MAXIMUM_FILE_BYTES + 1).decode("utf-8")
