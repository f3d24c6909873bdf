from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import inspect

from app.db.opened import OpenedDatabase
from app.settings import Settings


def test_it_opens_once_for_all_threads_and_again_after_closing(tmp_path: Path) -> None:
    opened = OpenedDatabase(Settings(data_dir=tmp_path / "not" / "there"))
    assert not tmp_path.joinpath("not").exists()
    seen: list[object] = []
    threads = [threading.Thread(target=lambda: seen.append(opened())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(database) for database in seen}) == 1
    assert tmp_path.joinpath("not", "there", "trainfit.sqlite").exists()
    opened.close()
    opened.close()
    assert "report" in inspect(opened().engine).get_table_names()
    opened.close()


def test_the_setting_names_the_database(database_url: str, tmp_path: Path) -> None:
    opened = OpenedDatabase(Settings(data_dir=tmp_path / "unused", database_url=SecretStr(database_url)))
    assert "report" in inspect(opened().engine).get_table_names()
    assert not tmp_path.joinpath("unused").exists()
    opened.close()


def test_an_application_starts_without_the_libraries_of_the_database() -> None:
    program = (
        "import sys; from app.main import create_app; create_app(); "
        "print([name for name in ('sqlalchemy', 'sqlmodel', 'alembic', 'psycopg', 'dbos') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
