"""The app rejects wrong settings and releases at start. One line for each mistake names the change to make."""

import os
from pathlib import Path

import pytest

from app.release import read_release
from app.settings import SettingsError, load_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("APP_", "REDIS_", "SESSION_", "CACHE_", "FAULTS_", "WEB_", "RELEASE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def refusal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return str(caught.value)


def test_the_app_starts_without_any_variable() -> None:
    """The app starts without any variable."""
    settings = load_settings()
    assert (settings.redis_host, settings.redis_port, settings.app_port) == ("127.0.0.1", 6379, 8000)
    assert not settings.faults_enabled


def test_env_file_is_read_and_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings come from `.env`. The environment has priority. An empty variable counts as not set."""
    (tmp_path / ".env").write_text(
        "SHOP_REDIS_HOST=redis\nSHOP_REDIS_PORT=6400\nSHOP_REDIS_PASSWORD=s3cret\nSHOP_APP_PORT=\nOTHER=1\n"
    )
    monkeypatch.setenv("SHOP_REDIS_PORT", "6401")
    settings = load_settings()
    assert (settings.redis_host, settings.redis_port, settings.app_port) == ("redis", 6401, 8000)
    assert settings.redis_secret() == "s3cret"
    assert "s3cret" not in repr(settings)


def test_the_variables_of_kubernetes_services_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app ignores variables that Kubernetes sets in each pod for Services named app and redis."""
    for name in ("APP_PORT", "REDIS_PORT", "REDIS_SERVICE_HOST"):
        monkeypatch.setenv(name, "tcp://10.0.0.7:8000")
    assert (load_settings().app_port, load_settings().redis_port) == (8000, 6379)


def test_every_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One error names all wrong variables. It repeats no value, because a value can be a secret."""
    text = refusal(monkeypatch, SHOP_REDIS_PORT="s3cret", SHOP_SESSION_TTL="0", SHOP_LOG_LEVEL="LOUD")
    assert [line.split(":")[0] for line in text.splitlines()] == [
        "SHOP_LOG_LEVEL",
        "SHOP_REDIS_PORT",
        "SHOP_SESSION_TTL",
    ]
    assert "s3cret" not in text


def test_faults_are_refused_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app rejects SHOP_FAULTS_ENABLED together with SHOP_APP_ENV=production."""
    text = refusal(monkeypatch, SHOP_APP_ENV="production", SHOP_FAULTS_ENABLED="true")
    assert text == "SHOP_FAULTS_ENABLED must be false when SHOP_APP_ENV is production"


def test_the_password_is_read_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The password can come from a file. A missing file is an error, and so are two passwords."""
    (tmp_path / "password").write_text("s3cret\n")
    monkeypatch.setenv("SHOP_REDIS_PASSWORD_FILE", str(tmp_path / "password"))
    assert load_settings().redis_secret() == "s3cret"
    assert "not both" in refusal(monkeypatch, SHOP_REDIS_PASSWORD="x")
    monkeypatch.delenv("SHOP_REDIS_PASSWORD")
    assert "SHOP_REDIS_PASSWORD_FILE: No such file" in refusal(
        monkeypatch, SHOP_REDIS_PASSWORD_FILE=str(tmp_path / "none")
    )


def test_the_release_is_read_from_its_folder(tmp_path: Path) -> None:
    """RELEASE contains the version and release.toml the rest. A folder without both is the release `dev`."""
    assert read_release(tmp_path, faults_enabled=False).version == "dev"
    (tmp_path / "RELEASE").write_text("1.2.0\n")
    (tmp_path / "release.toml").write_text('requires = ["PRICES_URL", "PATH"]\n')
    release = read_release(tmp_path, faults_enabled=False)
    assert release.version == "1.2.0"
    with pytest.raises(SettingsError, match=r"^PRICES_URL: required by release 1\.2\.0, not set$"):
        release.require_variables({"PATH": "/bin"})
    release.require_variables({"PATH": "/bin", "PRICES_URL": "http://prices"})


@pytest.mark.parametrize("text", ["requires = 7", "modules = [", "nonsense = true", "[faults]\nerror_rate = 2"])
def test_malformed_release_is_refused(tmp_path: Path, text: str) -> None:
    """An invalid release.toml is rejected with its path."""
    (tmp_path / "release.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"release\.toml"):
        read_release(tmp_path, faults_enabled=True)


def test_release_with_faults_needs_the_setting(tmp_path: Path) -> None:
    """A release with faults needs SHOP_FAULTS_ENABLED."""
    (tmp_path / "release.toml").write_text("[faults]\nerror_rate = 0.5\n")
    with pytest.raises(SettingsError, match="SHOP_FAULTS_ENABLED is false"):
        read_release(tmp_path, faults_enabled=False)
    assert read_release(tmp_path, faults_enabled=True).faults.error_rate == 0.5
