"""Where the page templates and the static files are.

In a checkout they stand at its top level, where people look for them; the wheel carries them inside the package, so
that it adds nothing but `planner` and `app` to the top of site-packages (docs/adr/0005-assets-in-the-wheel.md).
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def templates_directory() -> Path:
    """The folder of the page templates."""
    return _assets_directory("templates")


def static_directory() -> Path:
    """The folder of the files that are served as they are."""
    return _assets_directory("static")


def _assets_directory(name: str) -> Path:
    in_wheel, in_checkout = _PACKAGE / "_assets" / name, _PACKAGE.parent / name
    for directory in (in_wheel, in_checkout):
        if directory.is_dir():
            return directory
    raise FileNotFoundError(f"trainfit was installed without its {name}: neither {in_wheel} nor {in_checkout} exists")
