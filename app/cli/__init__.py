"""The command `trainfit`. Each command's module is imported only when it is asked for, so that all start quickly."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module

from app.cli.console import Console

COMMANDS = {
    "check": "answer one plan: does it fit, why, and what to change",
    "search": "free what may change, and see which plans are best",
    "verify": "answer one plan, checked against the library's own code",
    "estimate": "answer plans given as JSON or JSON Lines",
    "differ": "say why a measured run is not what was estimated",
    "report": "keep comparisons of plans: create, list, show, export, delete",
    "models": "search the catalogue of models",
    "devices": "search the catalogue of devices",
    "offers": "search the machines for rent and the free ones",
    "evaluate": "how far predictions are from what was measured",
    "measurements": "the measured runs that predictions are held against",
    "doctor": "what trainfit sees of this machine and its software",
    "serve": "start the web page and the API",
    "worker": "take jobs on this machine",
    "measure": "run one plan for some steps, and compare",
    "calibrate": "measure what this machine's device really does",
}
EXIT_CODES = """\
exit codes:
  0  it fits
  1  it is tight, does not fit, or no software runs it there
  2  it is not modelled, or the question has an error
"""
_SHOWN_CHARACTERS = 80


class _CommandParser(argparse.ArgumentParser):
    """A parser that says which flag may have been meant."""

    def understood(self, words: Sequence[str]) -> argparse.Namespace:
        """The arguments, or argparse's exit with 2 where a word is unknown."""
        found, unknown = self.parse_known_args(words)
        if unknown:
            flags = list(self._flags())
            said = (word + (_meant(word.partition("=")[0], flags) if word.startswith("-") else "") for word in unknown)
            self.error("unrecognized arguments: " + " ".join(said))
        return found

    def _flags(self) -> Iterator[str]:
        """Its own flags and those of its actions, as `trainfit report list` has some."""
        yield from self._option_string_actions
        for action in self._actions:
            if isinstance(action.choices, Mapping):
                for inner in action.choices.values():  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
                    if isinstance(inner, _CommandParser):
                        yield from inner._flags()


def _meant(word: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word[:_SHOWN_CHARACTERS], known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    if not words or words[0] not in COMMANDS:
        if words and not words[0].startswith("-"):
            parser.error(f"there is no command {words[0][:_SHOWN_CHARACTERS]!r}{_meant(words[0], COMMANDS)}")
        parser.parse_args(words)
        parser.print_help()
        return 2
    name, *rest = words
    module = import_module(f"app.cli.{name}")
    command_parser = _CommandParser(
        prog=f"trainfit {name}",
        usage=getattr(module, "USAGE", None),
        description=COMMANDS[name][0].upper() + COMMANDS[name][1:] + ".",
        epilog=getattr(module, "EPILOG", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(command_parser)
    try:
        return module.run(command_parser.understood(rest), Console.standard())
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        _discard_output()
        return 141  # as for a program that SIGPIPE ends: no verdict was read
    except KeyboardInterrupt:
        return 130


def _discard_output() -> None:
    """What is still buffered would fail again when the interpreter flushes it: it goes nowhere instead."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="trainfit",
        usage="trainfit COMMAND [...]",
        description="Can I train or fine-tune this model on this machine? How, how fast and at what price?",
        epilog=f"commands:\n{listed}\n\ntrainfit COMMAND --help says more.\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"trainfit {version('trainfit')}")
        except PackageNotFoundError:
            print("trainfit, from a checkout that is not installed")
        parser.exit()
