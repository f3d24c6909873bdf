"""The database of this installation: SQLite by default, PostgreSQL by address."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session

from app.db.errors import DatabaseUnavailable

MIGRATIONS = Path(__file__).with_name("migrations")
BUSY_MILLISECONDS = 5000
CONNECT_SECONDS = 3
"""How long to wait for PostgreSQL: a page waits with it."""


class Database:
    """An open database with its tables at the newest version."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _engine(url)

    def migrate(self) -> None:
        """Bring the tables to the newest version; a second process that starts at the same time waits."""
        with _availability(), self._writing_engine().begin() as connection:
            if connection.dialect.name == "postgresql":
                # Released with the transaction; the number only has to be ours.
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7243392)")
            command.upgrade(migrations_of(connection), "head")

    @contextmanager
    def reading(self) -> Generator[Session]:
        """A session that reads."""
        with _availability(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Generator[Session]:
        """A session that writes, in one transaction: all of it or nothing."""
        with (
            _availability(),
            Session(self._writing_engine(), expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def _writing_engine(self) -> Engine:
        return self.engine.execution_options(trainfit_writes=True)

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()


@contextmanager
def _availability() -> Generator[None]:
    """Say it in one word when a connection fails, breaks, cannot be had or cannot write."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        cause = error.orig if isinstance(error, OperationalError | InterfaceError) else error
        raise DatabaseUnavailable(" ".join(str(cause).split())[:300]) from error


def migrations_of(connection: Any) -> Config:
    """Alembic's settings for this connection. There is no alembic.ini: these are all of them."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def sqlite_url(path: Path) -> str:
    """The address of a SQLite file."""
    return f"sqlite:///{path}"


def _engine(url: str) -> Engine:
    address = make_url(url)
    if address.get_backend_name() == "sqlite":
        engine = create_engine(address, connect_args={"check_same_thread": False})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if address.drivername in {"postgres", "postgresql"}:
        address = address.set(drivername="postgresql+psycopg")
    return create_engine(address, pool_pre_ping=True, connect_args={"connect_timeout": CONNECT_SECONDS})


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own BEGIN comes too late for BEGIN IMMEDIATE; ours is below.
    connection.isolation_level = None
    cursor = connection.cursor()
    # The timeout first: going over to WAL takes a lock too.
    for pragma in (f"busy_timeout={BUSY_MILLISECONDS}", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    """A transaction that reads first and writes later fails under WAL when another wrote in between, at once and
    whatever the timeout (sqlite.org/isolation.html); IMMEDIATE takes the lock for writing at the start."""
    writes = connection.get_execution_options().get("trainfit_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def engine_url(url: str) -> str:
    """Where the engine keeps its own state: on PostgreSQL beside our tables, else in a file beside ours, made in WAL
    mode here because the engine doesn't do that."""
    address = make_url(url)
    if address.get_backend_name() != "sqlite":
        return address.set(drivername="postgresql").render_as_string(hide_password=False)
    path = Path(address.database or "").with_suffix(".engine.sqlite")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
        connection.execute("PRAGMA journal_mode=WAL")
    return sqlite_url(path)
