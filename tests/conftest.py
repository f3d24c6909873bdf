"""What every test may count on: no setting of the person who runs it, no file in their home, no Hub."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings as hypothesis_settings

# Two cores shared with other work make a deadline per example a coin toss; the whole suite has a time limit instead.
hypothesis_settings.register_profile("trainfit", deadline=None)
hypothesis_settings.load_profile("trainfit")


@pytest.fixture(autouse=True, scope="session")
def _own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    kept = {"TRAINFIT_REQUIRE_BROWSER", "TRAINFIT_CHROMIUM", "TRAINFIT_TEST_POSTGRES_URL"}
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("TRAINFIT_", "HF_")) and name not in kept]:
            patch.delenv(name)
        patch.setenv("TRAINFIT_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind. PostgreSQL's is made on the server of TRAINFIT_TEST_POSTGRES_URL and dropped."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'trainfit.sqlite'}"
        return
    server = os.environ.get("TRAINFIT_TEST_POSTGRES_URL")
    if not server:
        pytest.skip("no PostgreSQL: set TRAINFIT_TEST_POSTGRES_URL to one where databases may be made")
    import psycopg
    from psycopg.sql import SQL, Identifier

    name = f"trainfit_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    yield f"{server.rpartition('/')[0]}/{name}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser for tests: the one named by TRAINFIT_CHROMIUM, else the system's, else the one Playwright fetched.

    Without one the test is skipped, or fails where TRAINFIT_REQUIRE_BROWSER says that there must be one.
    """
    found = os.environ.get("TRAINFIT_CHROMIUM") or shutil.which("chromium") or _playwrights_own()
    if found:
        return found
    if os.environ.get("TRAINFIT_REQUIRE_BROWSER"):
        pytest.fail("TRAINFIT_REQUIRE_BROWSER is set, but there is no Chromium")
    pytest.skip("no Chromium: install Debian's chromium, or set TRAINFIT_CHROMIUM to one")


def _playwrights_own() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None
