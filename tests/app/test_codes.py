from __future__ import annotations

import re
from pathlib import Path

import planner
from app.problems import KINDS


def test_every_code_that_is_raised_has_an_entry_on_the_errors_page() -> None:
    folder = Path(planner.__file__).parent
    files = [*folder.rglob("*.py"), *(folder.parent / "app").rglob("*.py")]
    codes = {
        code for path in files for code in re.findall(r'(?:PlanError|Problem)\(\s*"([a-z_]+)"', path.read_text("utf-8"))
    }
    assert codes
    assert codes - set(KINDS) == set()
