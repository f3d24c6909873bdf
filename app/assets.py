"""Where the page templates, the static files and the documents that pages show are.

In a checkout they stand at its top level, where people look for them; the wheel carries them inside the package, so
that it adds nothing but `planner` and `app` to the top of site-packages (docs/adr/0005-assets-in-the-wheel.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).resolve().parent


def assets_directory(name: Literal["templates", "static", "docs"]) -> Path:
    """The folder of that name.

    Raises FileNotFoundError where it is in neither place: the installation is broken.
    """
    in_wheel, in_checkout = _PACKAGE / "_assets" / name, _PACKAGE.parent / name
    for directory in (in_wheel, in_checkout):
        if directory.is_dir():
            return directory
    raise FileNotFoundError(f"trainfit was installed without its {name}: neither {in_wheel} nor {in_checkout} exists")
