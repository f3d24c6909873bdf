"""The one database of a process, opened when somebody first asks for it, so that a server starts without SQLAlchemy."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.db.database import Database
    from app.settings import Settings

FILE = "trainfit.sqlite"


class OpenedDatabase:
    """Calling it gives the database, with its tables at the newest version; every thread gets the same one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._database: Database | None = None

    def __call__(self) -> Database:
        with self._lock:
            if self._database is None:
                self._database = _open(self._settings)
            return self._database

    @property
    def is_open(self) -> bool:
        """Whether somebody asked for it."""
        return self._database is not None

    @property
    def is_remote(self) -> bool:
        """Whether a setting names it."""
        return self._settings.database_url is not None

    def is_there(self) -> bool:
        """Whether something may be stored: asking the database itself would make it."""
        settings = self._settings
        return settings.database_url is not None or (settings.data_dir / FILE).exists()

    def close(self) -> None:
        """Give the connections back. Asking again opens again."""
        with self._lock:
            if self._database is not None:
                self._database.close()
            self._database = None


def url_of(settings: Settings) -> str:
    """The database's address; without a setting, a SQLite file in the data folder, which is made."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{settings.data_dir / FILE}"


def _open(settings: Settings) -> Database:
    from app.db.database import Database

    database = Database(url_of(settings))
    database.migrate()
    return database
