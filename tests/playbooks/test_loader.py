"""The loader: strict YAML, fragments, and all errors at once with their places; a folder is loaded completely or not at
all."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, create_model

from remediator.config import Config
from remediator.core.types import Strict
from remediator.errors import ConfigurationError
from remediator.playbooks.diagnostics import Severity, render
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import LoadResult, load, load_config, load_inventory, load_playbooks, read, read_model
from remediator.playbooks.parsing.nodes import Scalar, data, find, walk
from remediator.playbooks.parsing.yaml_reader import MAX_BYTES, read_bytes, read_file
from tests.authoring.lint.catalogue import CATALOGUE
from tests.authoring.lint.mistakes import WORLD

BASE = (WORLD / "redis-down.yaml").read_text(encoding="utf-8")
INVENTORY = read(WORLD / "inventory.yaml", Inventory)
FRAGMENT = """\
apiVersion: remediator/v1
kind: Fragment
name: defaults
mode: observe
guards: {cooldown: 10m, storm: {}}
approval: {groups: [ops], expires: 1h}
diagnose:
  - {id: status, check: service.running}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with one valid playbook."""
    (tmp_path / "redis-down.yaml").write_text(BASE, encoding="utf-8")
    return tmp_path


def loaded(folder: Path) -> LoadResult:
    return load_playbooks([folder], CATALOGUE, INVENTORY)


def errors(found: LoadResult) -> list[str]:
    return [f"{item.line}:{item.column} {item.rule}" for item in found.diagnostics if item.severity is Severity.ERROR]


# -- YAML ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plain", "value"),
    [
        *((text, text) for text in ("no", "on", "y", "off", "Yes", "1e3", "010", "0o10", "0x1F", "1_000", "12:30")),
        *((text, text) for text in ("2026-01-01", ".inf", ".nan", "1.", ".5", "+.5e3", "=", "1.2.3", "tRue")),
        ("true", True),
        ("False", False),
        ("7", 7),
        ("-7", -7),
        ("0", 0),
        ("1.50", 1.5),
        ("~", None),
        ("null", None),
        ("'7'", "7"),
        ('"no"', "no"),
        ("99999999999999999999", "99999999999999999999"),
    ],
)
def test_plain_scalars_are_converted_without_ambiguity(plain: str, value: Any) -> None:
    """Only scalars that every version of YAML reads in the same way become numbers or booleans."""
    root, diagnostics = read_bytes(f"a: {plain}\n".encode(), "f.yaml")
    assert not diagnostics
    assert root is not None
    assert data(root) == {"a": value}
    assert type(data(root)["a"]) is type(value)


def test_pyyaml_reads_the_same_values() -> None:
    """For a file without ambiguous scalars, the reader and PyYAML agree."""
    root, _ = read_bytes(BASE.encode(), "f.yaml")
    assert root is not None
    assert data(root) == yaml.safe_load(BASE)


SCALARS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=20)


@given(SCALARS, st.sampled_from(["'", '"']), st.integers(0, 19))
def test_a_column_within_a_text_is_found_through_its_escapes(text: str, style: str, at: int) -> None:
    """The caret is below the right character, whatever quotes and escapes come before it."""
    dumped = yaml.dump({"key": text}, default_style=style, allow_unicode=False, width=10_000)
    root, _ = read_bytes(dumped.encode(), "f.yaml")
    assert root is not None
    scalar = find(root, ("key",))[0]
    assert isinstance(scalar, Scalar)
    at = min(at, len(text) - 1)
    place = scalar.diagnostic("x", "x", offset=at + 1)
    rest = dumped.split("\n")[place.line - 1][place.column - 1 :]
    shown = text[at]
    escapes = (f"\\x{ord(shown):02X}", f"\\u{ord(shown):04X}", f"\\U{ord(shown):08X}", "\\", "''")
    assert rest.startswith((shown, *escapes))


@pytest.mark.promise(8)
def test_aliases_are_not_expanded() -> None:
    """Aliases are refused before they are expanded, so an alias bomb is harmless."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    _, diagnostics = read_bytes("\n".join(lines).encode(), "f.yaml")
    assert {item.rule for item in diagnostics} == {"alias"}


def test_a_file_that_is_too_large_is_not_parsed() -> None:
    """A file is refused by its size before it is parsed."""
    _, (diagnostic,) = read_bytes(b"a: 1\n" + b"#" * MAX_BYTES, "f.yaml")
    assert diagnostic.rule == "too-big"


def test_a_file_with_too_many_values_is_refused() -> None:
    """The number of values is limited, so a megabyte of commas does not become a million nodes."""
    _, (diagnostic,) = read_bytes(b"a: [" + b"1," * 100_000 + b"1]", "f.yaml")
    assert diagnostic.rule == "too-big"


def test_a_missing_file_is_a_diagnostic(tmp_path: Path) -> None:
    """A missing file gives a diagnostic, not an exception."""
    root, (diagnostic,) = read_file(tmp_path / "no.yaml", "no.yaml")
    assert root is None
    assert str(diagnostic) == "no.yaml: error: cannot read the file: No such file or directory (unreadable)"


JUNK = ["", "{", "]", ":", " ", "\n", "- ", "'", '"', "&a", "*a", "\t", "${", "é", "0", "~"]


@settings(max_examples=150)
@given(st.data())
def test_no_file_breaks_the_loader(chosen: st.DataObject) -> None:
    """A damaged playbook is loaded, or refused with a place inside the file."""
    text = BASE
    for _ in range(chosen.draw(st.integers(1, 3))):
        start = chosen.draw(st.integers(0, len(text)))
        end = min(len(text), start + chosen.draw(st.integers(0, 40)))
        junk = chosen.draw(st.sampled_from(JUNK))
        text = text[:start] + junk + text[end:]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "scribbled.yaml").write_text(text, encoding="utf-8")
        found = load_playbooks([Path(folder)], CATALOGUE, INVENTORY)
    lines = text.split("\n")
    for item in found.diagnostics:
        assert item.line <= len(lines)
        assert render(item)
        assert item.message


# -- files --------------------------------------------------------------------------------------------------------


def test_a_folder_is_read_recursively(folder: Path) -> None:
    """Subfolders are read; tests, hidden files and other suffixes are skipped."""
    (folder / "more").mkdir()
    (folder / "more" / "app-down.yml").write_text(BASE.replace("redis-down", "app-down"), encoding="utf-8")
    for name in ("redis-down.test.yaml", ".hidden.yaml", "notes.txt"):
        (folder / name).write_text("nonsense: [", encoding="utf-8")
    found = loaded(folder)
    assert [playbook.name for playbook in found.playbooks] == ["app-down", "redis-down"]
    assert not found.diagnostics


def test_a_playbook_knows_its_file(folder: Path) -> None:
    """A playbook has the path of its file, which ``explain`` and ``lint`` print."""
    (playbook,) = loaded(folder).playbooks
    assert playbook.source.endswith("redis-down.yaml")


def test_an_empty_folder_is_a_warning(tmp_path: Path) -> None:
    """An empty folder gives a warning, because the path is probably wrong."""
    (diagnostic,) = loaded(tmp_path).diagnostics
    assert (diagnostic.rule, diagnostic.severity) == ("no-playbooks", Severity.WARNING)


def test_a_broken_file_does_not_hide_valid_files(folder: Path) -> None:
    """The result has the valid playbooks, and every error of the invalid files."""
    (folder / "broken.yaml").write_text(BASE.replace("redis-down", "broken").replace("60s", "60"), encoding="utf-8")
    found = loaded(folder)
    assert [playbook.name for playbook in found.playbooks] == ["redis-down"]
    assert errors(found) == ["38:14 wrong-value", "50:11 wrong-value"]


def test_an_error_between_parts_is_found_beside_others_and_never_invented(tmp_path: Path) -> None:
    """A cause without a conclusion is reported beside another error, but not if the conclusion itself is invalid."""
    text = """apiVersion: remediator/v1
kind: Playbook
name: redis-down
match: {alertname: RedisDown}
mode: auto
target: redis
conclude: [{id: down, when: "true", cause: It is down.}]
steps: [{id: restart, action: service.restart, for: down}]
verify: {checks: [{check: service.running}]}
escalate: {to: [oncall]}
"""
    path = tmp_path / "redis-down.yaml"
    path.write_text(text.replace("for: down", "for: dwn") + "unknown: 1\n", encoding="utf-8")
    assert [item.split()[1] for item in errors(loaded(tmp_path))] == ["unknown-cause", "unknown-key"]
    path.write_text(text.replace(' when: "true",', ""), encoding="utf-8")
    assert [item.split()[1] for item in errors(loaded(tmp_path))] == ["missing-key"]


def test_the_service_loads_all_or_nothing(folder: Path) -> None:
    """With one error, nothing is loaded; the exception shows all errors with their lines."""
    assert len(load([folder], WORLD / "inventory.yaml", CATALOGUE).playbooks) == 1
    (folder / "broken.yaml").write_text(BASE.replace("redis-down", "broken").replace("60s", "60"), encoding="utf-8")
    with pytest.raises(ConfigurationError) as refused:
        load([folder], WORLD / "inventory.yaml", CATALOGUE)
    assert "2 errors" in str(refused.value)
    assert (
        "broken.yaml:38:14: error: 'timeout': 60 has no unit; write a duration like 60s, 5m or 1h30m (wrong-value)"
        in str(refused.value)
    )
    assert "  38 |     timeout: 60\n     |              ^^" in str(refused.value)


def test_comments_and_order_do_not_change_the_version(folder: Path) -> None:
    """The hash covers the content only."""
    before = loaded(folder).playbooks[0].content_hash
    (folder / "redis-down.yaml").write_text("# a remark\n" + BASE.replace("60s", "1m"), encoding="utf-8")
    assert loaded(folder).playbooks[0].content_hash == before
    (folder / "redis-down.yaml").write_text(BASE.replace("60s", "61s"), encoding="utf-8")
    assert loaded(folder).playbooks[0].content_hash != before


# -- fragments ----------------------------------------------------------------------------------------------------


def test_use_merges_under_the_playbook(folder: Path) -> None:
    """Keys of the playbook have priority, mappings are merged, lists are replaced."""
    (folder / "defaults.yaml").write_text(FRAGMENT, encoding="utf-8")
    text = BASE.replace("parameters:", "use: [defaults]\nparameters:").replace("  cooldown: 5m\n", "")
    text = text.replace("mode: {default: approve, demo: auto}\n", "").replace(", expires: 15m", "")
    (folder / "redis-down.yaml").write_text(text, encoding="utf-8")
    found = loaded(folder)
    assert not found.diagnostics
    (playbook,) = found.playbooks
    assert playbook.mode == "observe"
    assert playbook.guards.settings["cooldown"] == "10m"
    assert playbook.guards.settings["rate_limit"] == ["3/1h", "7/1d"]
    assert playbook.approval.groups == ("sre",)
    assert playbook.approval.expires.total_seconds() == 3600
    assert [look.id for look in playbook.diagnose] == ["ping", "logs"]


def test_a_later_fragment_overrides_an_earlier_one(folder: Path) -> None:
    """The fragments of ``use`` are applied from left to right."""
    (folder / "defaults.yaml").write_text(FRAGMENT, encoding="utf-8")
    other = FRAGMENT.replace("name: defaults", "name: strict").replace("10m", "20m").replace("mode: observe\n", "")
    (folder / "strict.yaml").write_text(other, encoding="utf-8")
    text = BASE.replace("parameters:", "use: [defaults, strict]\nparameters:").replace("  cooldown: 5m\n", "")
    (folder / "redis-down.yaml").write_text(text, encoding="utf-8")
    (playbook,) = loaded(folder).playbooks
    assert playbook.guards.settings["cooldown"] == "20m"


def test_include_inserts_at_its_place(folder: Path) -> None:
    """Fragments can include fragments, and the hash covers the included parts."""
    (folder / "defaults.yaml").write_text(FRAGMENT, encoding="utf-8")
    (folder / "general.yaml").write_text(
        "apiVersion: remediator/v1\nkind: Fragment\nname: general\ndiagnose:\n"
        "  - {include: defaults}\n  - {id: more, check: service.running}\n",
        encoding="utf-8",
    )
    text = BASE.replace("  - {id: logs,", "  - {include: general}\n  - {id: logs,")
    (folder / "redis-down.yaml").write_text(text, encoding="utf-8")
    (playbook,) = loaded(folder).playbooks
    assert [look.id for look in playbook.diagnose] == ["ping", "status", "more", "logs"]
    before = playbook.content_hash
    (folder / "defaults.yaml").write_text(FRAGMENT.replace("service.running", "redis.ping"), encoding="utf-8")
    assert loaded(folder).playbooks[0].content_hash != before


def test_an_error_in_a_fragment_is_reported_once(folder: Path) -> None:
    """The error has its place in the fragment, however many playbooks include it, and none of them is loaded."""
    (folder / "defaults.yaml").write_text(FRAGMENT.replace("service.running", "service.walking"), encoding="utf-8")
    for name in ("redis-down", "app-down"):
        text = BASE.replace("redis-down", name).replace("diagnose:\n", "diagnose:\n  - {include: defaults}\n")
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    found = loaded(folder)
    (diagnostic,) = found.diagnostics
    assert diagnostic.file.endswith("defaults.yaml")
    assert (diagnostic.line, diagnostic.column, diagnostic.rule) == (8, 25, "unknown-check")
    assert found.playbooks == ()


# -- inventory and settings ---------------------------------------------------------------------------------------


def test_errors_of_the_inventory_have_places(tmp_path: Path) -> None:
    """An unknown platform and a wrong type are each reported at their line."""
    path = tmp_path / "inventory.yaml"
    path.write_text(
        "apiVersion: remediator/v1\nkind: Inventory\nservices:\n"
        '  a:\n    platform: {kind: supervisord, url: "unix:///s", program: a}\n'
        '  b:\n    platform: {kind: supervisor, url: "unix:///s", program: b}\n    minimum_healthy: no\n',
        encoding="utf-8",
    )
    found = [(item.line, item.column, item.rule, item.hint) for item in load_inventory(path).diagnostics]
    assert found == [
        (5, 22, "wrong-value", "did you mean 'supervisor'?"),
        (8, 22, "wrong-type", "no is false in YAML 1.1 and text in YAML 1.2; write false"),
    ]


def test_a_cycle_is_shown_at_the_line_that_closes_it(tmp_path: Path) -> None:
    """The message contains the cycle."""
    path = tmp_path / "inventory.yaml"
    path.write_text(
        "apiVersion: remediator/v1\nkind: Inventory\nservices:\n"
        '  a:\n    platform: {kind: supervisor, url: "unix:///s", program: a}\n    depends_on: [b]\n'
        '  b:\n    platform: {kind: supervisor, url: "unix:///s", program: b}\n    depends_on: [a]\n',
        encoding="utf-8",
    )
    (diagnostic,) = load_inventory(path).diagnostics
    assert (diagnostic.line, diagnostic.column, diagnostic.rule) == (6, 18, "dependency-cycle")
    assert diagnostic.message == "services depend on each other in a cycle: a -> b -> a"


def test_invalid_settings_are_refused_with_all_errors(tmp_path: Path) -> None:
    """Settings files are loaded like playbooks."""
    path = tmp_path / "remediator.yaml"
    path.write_text(
        "apiVersion: remediator/v1\nkind: Config\nstate: state\nplaybooks: playbooks\n"
        "inventory: inventory.yaml\nwatchdog: {max_silence: 120}\nlogg: {format: human}\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigurationError) as refused:
        load_config(path, Config)
    text = str(refused.value)
    assert "remediator.yaml:4:12: error: 'playbooks' must be a list, not 'playbooks' (wrong-type)" in text
    expected = "'max_silence': 120 has no unit; write a duration like 120s, 5m or 1h30m (wrong-value)"
    assert f"remediator.yaml:6:25: error: {expected}" in text
    assert "remediator.yaml:7:1: error: unknown key 'logg' (unknown-key)" in text
    assert "help: did you mean 'log'?" in text


def test_relative_paths_start_at_the_folder_of_the_settings(tmp_path: Path) -> None:
    """The working folder of the process has no effect."""
    path = tmp_path / "remediator.yaml"
    path.write_text((WORLD / "remediator.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    config = load_config(path, Config)
    assert config.inventory == tmp_path / "inventory.yaml"
    assert config.playbooks == (tmp_path / "playbooks",)


def test_every_scalar_has_its_place() -> None:
    """The line and column of a scalar lead to its text."""
    root, _ = read_bytes(BASE.encode(), "f.yaml")
    assert root is not None
    lines = BASE.split("\n")
    for _, scalar in walk(root):
        rest = lines[scalar.line - 1][scalar.column - 1 :]
        assert rest.lstrip("'\"").startswith(scalar.raw.split("\n")[0][:5]) or '"' in scalar.raw


@pytest.mark.parametrize("url", ["remediator.example", "unix:///run/x", "http://", "https://a.example/?x=1"])
def test_links_need_a_url_that_browsers_open(tmp_path: Path, url: str) -> None:
    """An invalid ``public_url`` is reported at the start, before an approval request uses it."""
    settings = tmp_path / "remediator.yaml"
    settings.write_text(
        "apiVersion: remediator/v1\nkind: Config\nstate: state\nplaybooks: []\ninventory: inventory.yaml\n"
        f"public_url: {url}\n"
    )
    with pytest.raises(ConfigurationError, match=r"remediator\.yaml:6:13: error: 'public_url'"):
        load_config(settings, Config)


def test_a_key_in_a_mapping_of_any_kind_gets_its_description(tmp_path: Path) -> None:
    """If a plugin declares ``Mapping`` instead of ``dict``, the message is the same."""

    class Place(Strict):
        """A place with a description, for this test."""

        folder: str = Field(description="Folder of the place.")

    for kind in (dict, Mapping):
        model = create_model("Places", __base__=Strict, places=(kind[str, Place], Field(description="All places.")))
        path = tmp_path / "places.yaml"
        path.write_text("places:\n  here: {}\n  there: {foldr: x}\n")
        found = read_model(path, model).diagnostics
        assert {item.hint for item in found if item.rule == "missing-key"} == {"Folder of the place."}
        assert [item.hint for item in found if item.rule == "unknown-key"] == ["did you mean 'folder'?"]
