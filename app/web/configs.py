"""Pasted configurations, each in a file named by the hash of its content, so that an address can hold one."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.hub import canonical_json, parse_config
from app.problems import Problem

MAXIMUM_FILES = 10_000
_HASH = re.compile(r"[0-9a-f]{64}")


class ConfigStore:
    """A folder of configurations. When it is full, the file that was longest not asked for goes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, config: Mapping[str, Any]) -> str:
        """Store a configuration; the same content has the same hash."""
        text = canonical_json(config).encode()
        digest = hashlib.sha256(text).hexdigest()
        path = self._path(digest)
        if not path.exists():
            self._directory.mkdir(parents=True, exist_ok=True)
            self._make_room()
            _write_whole(path, text)
        return digest

    def get(self, digest: str) -> dict[str, Any]:
        """The configuration with this hash.

        Raises:
            Problem: none is stored.
        """
        if not _HASH.fullmatch(digest):
            raise _missing(digest)
        path = self._path(digest)
        try:
            config = parse_config(path.read_bytes())
        except (OSError, ValueError) as error:
            raise _missing(digest) from error
        os.utime(path)
        return config

    def _path(self, digest: str) -> Path:
        return self._directory / f"{digest}.json"

    def _make_room(self) -> None:
        files = list(self._directory.glob("*.json"))
        if len(files) >= MAXIMUM_FILES:
            min(files, key=lambda path: path.stat().st_mtime).unlink(missing_ok=True)


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file such that nobody ever reads half of it."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)


def _missing(digest: str) -> Problem:
    return Problem(
        "unknown_plan",
        "the address names a pasted configuration that is not stored on this server",
        field="config",
        value=digest,
        accepted="the hash of a configuration that was pasted here",
    )
