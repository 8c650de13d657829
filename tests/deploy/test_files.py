"""The files of the local stack are those of the repository, with the necessary changes only."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from demo.stack import files, programs
from demo.stack.settings import ROOT, Ports, Settings, StackError
from remediator.config import Config
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import load_config, read
from tests.alerting.test_rules import run
from tests.support.servers import require


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return a stack that is not started, in a folder with a space, whose programs are installed."""
    for program in programs.PACKAGES:
        require(program)
    return Settings(tmp_path / "my state", Ports())


def test_the_remediator_accepts_the_written_settings(settings: Settings) -> None:
    """Settings and inventory load, and only the owner can read the files of secrets."""
    files.write_all(settings)

    config = load_config(settings.remediator_yaml, Config)
    inventory = read(settings.remediator_yaml.with_name("inventory.yaml"), Inventory)
    assert config.environment == "demo"
    assert {"redis", "app"} <= inventory.services.keys()
    for secret in ("redis.password", "webhook.token", "supervisord.conf", "redis/redis.conf"):
        assert (settings.state / secret).stat().st_mode & 0o077 == 0


def test_a_second_start_keeps_the_secrets(settings: Settings) -> None:
    """Writing all files again changes no secret and no file."""
    files.write_all(settings)
    before = {path: path.read_bytes() for path in settings.state.rglob("*") if path.is_file()}
    files.write_all(settings)

    assert {path: path.read_bytes() for path in settings.state.rglob("*") if path.is_file()} == before


def test_the_programs_accept_the_written_settings(settings: Settings) -> None:
    """promtool, amtool and nginx accept the generated files, including rules."""
    files.write_all(settings)
    (settings.state / "nginx/remediator/slower.conf").write_text("limit_req zone=tight burst=20 nodelay;\n")
    for argv in (
        ("promtool", "check", "config", str(settings.state / "prometheus/prometheus.yml")),
        ("amtool", "check-config", str(settings.state / "alertmanager/alertmanager.yml")),
        ("nginx", "-t", "-p", str(settings.state), "-c", str(settings.state / "nginx/nginx.conf"), "-e", "stderr"),
    ):
        checked = run(*argv)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_number_of_requests_is_the_sum_of_all_instances(settings: Settings) -> None:
    """The expression is the sum of all instances: 0 if no instance answers, unknown without instances."""
    files.write_all(settings)
    paths = (
        settings.remediator_yaml.with_name("inventory.yaml"),
        ROOT / "deploy/compose/inventory.yaml",
        ROOT / "deploy/kubernetes/remediator/inventory.yaml",
    )
    (expression,) = {yaml.safe_load(path.read_text())["services"]["app"]["http"]["in_flight"] for path in paths}

    def scraped(job: str, **figures: str) -> list[dict[str, str]]:
        return [
            {"series": f'{name}{{job="{job}",instance="{number}"}}', "values": value}
            for name, values in figures.items()
            for number, value in enumerate(values.split())
        ]

    cases: list[tuple[list[dict[str, str]], list[int]]] = [
        (scraped("fastapi-app", up="1 1", app_requests_in_progress="3 4"), [7]),
        (scraped("fastapi-app", up="1 0", app_requests_in_progress="3 stale"), [3]),
        (scraped("fastapi-app", up="0 0"), [0]),
        (scraped("fastapi-app", up="1 1"), []),
        (scraped("another", up="1 0", app_requests_in_progress="3 4"), []),
    ]
    tests = [
        {
            "input_series": series,
            "promql_expr_test": [
                {
                    "expr": expression,
                    "eval_time": "0s",
                    "exp_samples": [{"labels": "{}", "value": value} for value in found],
                }
            ],
        }
        for series, found in cases
    ]
    (settings.state / "in_flight_test.yml").write_text(yaml.safe_dump({"tests": tests}))
    tested = run("promtool", "test", "rules", str(settings.state / "in_flight_test.yml"))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_app_starts_in_a_release_folder(settings: Settings) -> None:
    """The first release becomes current. A release that was made current later stays current."""
    files.write_all(settings)
    current = settings.state / "app/current"
    assert (current / "RELEASE").read_text().strip() == files.FIRST_RELEASE

    files.release(settings, "1.0.1")
    current.unlink()
    current.symlink_to("releases/1.0.1")
    files.write_all(settings)
    assert (current / "RELEASE").read_text().strip() == "1.0.1"


def test_missing_programs_are_named_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who is not root gets the names of the missing packages."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    with pytest.raises(StackError, match=r"run 'apt-get install no-such-package', then try again\.$"):
        programs.ensure({"no-such-program": "no-such-package"})


def test_without_apt_the_packages_are_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another distribution, root gets the names of the missing packages."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(StackError, match=r"^Missing: no-such-program\. There is no apt-get here"):
        programs.ensure({"no-such-program": "no-such-package"})


def test_the_yaml_that_is_written_is_yaml(settings: Settings) -> None:
    """A YAML loader reads the output of `dump` back unchanged."""
    assert yaml.safe_load(files.dump(files.remediator(settings))) == files.remediator(settings)
