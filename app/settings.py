"""Settings from the environment and from `.env` in the working directory. The environment has priority."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ENV_FILE = ".env"
PREFIX = "SHOP_"
"""Kubernetes sets REDIS_PORT and APP_PORT to the URLs of Services with these names; names of our own avoid that."""


class SettingsError(Exception):
    """The settings are wrong. The message has one line per wrong variable."""


class Settings(BaseSettings):
    """Each field is an environment variable: `SHOP_` and its name in capitals. Times are in seconds."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        extra="ignore",
        env_ignore_empty=True,
        frozen=True,
        hide_input_in_errors=True,
    )

    app_env: Literal["development", "test", "production"] = "development"
    app_host: str = "127.0.0.1"
    app_port: int = Field(default=8000, ge=1, le=65535)
    web_concurrency: int = Field(default=2, ge=1, le=64)
    app_state_dir: Path = Path("state")
    app_pid_file: Path | None = None
    app_record_file: Path | None = None
    app_graceful_timeout: int = Field(default=10, ge=1, le=300)
    release_dir: Path = Path()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"

    redis_host: str = Field(default="127.0.0.1", min_length=1)
    redis_port: int = Field(default=6379, ge=1, le=65535)
    redis_db: int = Field(default=0, ge=0)
    redis_password: SecretStr | None = None
    redis_password_file: Path | None = None
    redis_timeout: float = Field(default=0.25, gt=0, le=5)

    cache_ttl: float = Field(default=60, gt=0, le=86400)
    session_ttl: int = Field(default=3600, ge=1, le=30 * 86400)
    session_cookie_secure: bool | None = None
    max_in_flight: int = Field(default=64, ge=1, le=10000)
    faults_enabled: bool = False

    @model_validator(mode="after")
    def _no_faults_in_production(self) -> Self:
        if self.faults_enabled and self.app_env == "production":
            raise ValueError("SHOP_FAULTS_ENABLED must be false when SHOP_APP_ENV is production")
        return self

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.redis_password and self.redis_password_file:
            raise ValueError("set SHOP_REDIS_PASSWORD or SHOP_REDIS_PASSWORD_FILE, not both")
        return self

    @property
    def state_dir(self) -> Path:
        return self.app_state_dir.resolve()

    @property
    def pid_file(self) -> Path:
        """PID file of gunicorn's master, which accepts the signals TTIN, TTOU and HUP."""
        return self.app_pid_file.resolve() if self.app_pid_file else self.state_dir / "app.pid"

    @property
    def record_file(self) -> Path:
        """The SQLite file. Several instances on one machine may share it."""
        return self.app_record_file.resolve() if self.app_record_file else self.state_dir / "app.sqlite3"

    @property
    def cookie_secure(self) -> bool:
        """Whether the session cookie is sent over HTTPS only. Default: in production."""
        return self.app_env == "production" if self.session_cookie_secure is None else self.session_cookie_secure

    def redis_secret(self) -> str | None:
        """Return the Redis password. Its file is read at each call.

        Raise SettingsError if the file cannot be read.
        """
        if self.redis_password_file:
            return _read_secret(self.redis_password_file)
        return self.redis_password.get_secret_value() if self.redis_password else None


def load_settings() -> Settings:
    """Return the settings. Raise SettingsError with all wrong variables."""
    try:
        settings = Settings()
    except ValidationError as error:
        raise SettingsError("\n".join(_lines(error))) from None
    settings.redis_secret()
    return settings


def environment() -> Mapping[str, str]:
    """Return all variables of `.env` and of the process. The process has priority."""
    return {name: value for name, value in dotenv_values(ENV_FILE).items() if value} | dict(os.environ)


def _read_secret(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError as error:
        raise SettingsError(f"SHOP_REDIS_PASSWORD_FILE: {error.strerror}: {file}") from None


def _lines(error: ValidationError) -> list[str]:
    return [
        f"{PREFIX}{'.'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
        if problem["loc"]
        else problem["msg"].removeprefix("Value error, ")
        for problem in error.errors()
    ]
