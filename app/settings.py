"""The settings of a running trainfit. They come from the environment, which is read here and nowhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def default_data_directory(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Where this system keeps what programs store for a user.

    Windows: %LOCALAPPDATA%. macOS: ~/Library/Application Support. Elsewhere $XDG_DATA_HOME, else ~/.local/share, as the
    XDG Base Directory Specification 0.8 has it (which says to ignore a relative path).
    """
    if platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "trainfit"
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "trainfit"
    stated = Path(environment.get("XDG_DATA_HOME", ""))
    return (stated if stated.is_absolute() else Path.home() / ".local" / "share") / "trainfit"


class Settings(BaseSettings):
    """Each field is the variable `TRAINFIT_` + its name in capitals; HF_ENDPOINT and HF_TOKEN are understood too."""

    model_config = SettingsConfigDict(
        env_prefix="TRAINFIT_", env_ignore_empty=True, frozen=True, populate_by_name=True, extra="forbid"
    )

    host: str = Field(default="127.0.0.1", description="address that `trainfit serve` listens on")
    port: int = Field(
        default=8000, ge=0, le=65535, description="port that `trainfit serve` listens on; 0 takes a free one"
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="names that the server answers to, with commas; none: its own on loopback, elsewhere any",
    )
    data_dir: Path = Field(default_factory=default_data_directory, description="folder for everything that is stored")
    database_url: SecretStr | None = Field(
        default=None, description="database of reports and jobs; none: SQLite files in the data folder"
    )
    token: SecretStr | None = Field(
        default=None, description="what a caller from elsewhere shows to start jobs; needed on any address but loopback"
    )
    local_directories: bool = Field(default=True, description="whether a model may be a folder of this machine")
    hub_endpoint: str = Field(
        default="https://huggingface.co",
        validation_alias=AliasChoices("TRAINFIT_HUB_ENDPOINT", "HF_ENDPOINT"),
        description="where model configurations are read from",
    )
    hub_timeout_seconds: float = Field(default=5.0, gt=0, description="how long to wait for the Hub")
    verification_seconds: float = Field(default=60.0, gt=0, le=3600, description="how long one verification may take")
    verification_patience_seconds: float = Field(
        default=10.0, ge=0, le=3600, description="how long a call waits for a verification before it becomes a job"
    )
    verification_memory_gib: float = Field(
        default=2.0, gt=0, le=1024, description="memory that one verification may take beyond the libraries"
    )
    hf_token: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("TRAINFIT_HF_TOKEN", "HF_TOKEN"),
        description="your Hub token, for gated models",
    )

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


def colour_is_welcome(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a terminal may be written to in colour: not under NO_COLOR (no-color.org) or on a dumb terminal."""
    return not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
