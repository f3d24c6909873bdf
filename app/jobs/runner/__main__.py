"""`python -m app.jobs.runner SPEC_FILE OUT_DIRECTORY`; `torchrun` starts it once more for each rank."""

from __future__ import annotations

import sys
from pathlib import Path

from app.jobs.runner.confine import confine


def main(arguments: list[str]) -> int:
    """Confine this process, then run."""
    confine()
    from app.jobs.runner.run import run

    spec, directory = arguments
    return run(Path(spec), Path(directory))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
