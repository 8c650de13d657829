"""Two instances by mistake, with one replica ID on one database or on one file, do nothing twice."""

from __future__ import annotations

import pytest

from tests.promises.conftest import MakeInstallation
from tests.support.servers import until

pytestmark = [pytest.mark.promise(4), pytest.mark.promise(14)]


def test_two_processes_with_one_replica_id_repeat_nothing_and_report_it(
    make_installation: MakeInstallation, postgres_url: str
) -> None:
    """Two processes with one replica ID, as after a copy of the settings file, do nothing twice and report it."""
    installation = make_installation(targets=6, store=postgres_url)
    first, second = (installation.replica(replica="remediator-0") for _ in range(2))
    first.start()
    second.start()
    for number, target in enumerate(installation.targets):
        assert (first, second)[number % 2].tell(target)
    wanted = dict.fromkeys(installation.targets, 2)
    until(
        lambda: {target: installation.starts(target) for target in installation.targets} == wanted, "each is restarted"
    )
    until(lambda: "another process started with the same replica ID" in first.command_line("status").stdout, "status")
    assert {target: installation.starts(target) for target in installation.targets} == wanted


def test_a_second_process_on_the_same_file_is_refused(make_installation: MakeInstallation) -> None:
    """A second process on the same state folder does not start, and the first one continues."""
    installation = make_installation()
    first = installation.replica()
    first.start()
    second = installation.replica(state=str(first.folder / "state"))
    second.launch()
    until(lambda: second.ended, "it ends")
    assert "is in use by process" in second.log
    assert first.ready()
