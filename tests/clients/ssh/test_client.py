"""Requests to another host: each failure proves whether the host did something, and no request is done twice."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.fleet.simulated_hosts import SimulatedHosts, keygen
from remediator.clients.ssh.client import CallState, RemoteHost
from remediator.core.attempt_calls import in_attempt
from remediator.errors import BadAnswer, ClientError, Refused, TargetError, TimedOut, Unreachable
from tests.support.servers import until
from tests.support.servers.ssh_hosts import UNIT, MakeHosts, client, kill, processes

pytestmark = [pytest.mark.promise(3)]


async def restart(host: RemoteHost, attempt: str = "attempt-1", seconds: float = 20.0) -> None:
    """Restart the unit as a call of an attempt."""
    with in_attempt(attempt):
        await host.change("unit-restart", unit=UNIT, seconds=seconds)


async def settled(host: RemoteHost, attempt: str = "attempt-1") -> list[CallState]:
    """Close an attempt, and return the states of its calls."""
    with in_attempt(attempt):
        return [call.state for call in await host.settle()]


async def begun(hosts: SimulatedHosts, name: str = "web-1") -> None:
    """Wait until the host restarts its unit."""
    await asyncio.to_thread(until, lambda: bool(hosts.calls(name)), "the restart began")


async def test_a_call_is_made_once_with_a_marker(hosts: SimulatedHosts, web: RemoteHost) -> None:
    """The host refuses a second identical call of an attempt, whoever sends it."""
    await restart(web)
    with pytest.raises(Refused, match="begun before"):
        await restart(web)

    assert hosts.calls("web-1") == [f"begun {UNIT}", f"done {UNIT}"]
    assert hosts.markers("web-1") == ["attempt-1.0"]
    assert await settled(web) == [CallState.FINISHED]
    assert hosts.calls("web-2") == []


async def test_a_change_without_an_intent_is_not_made(hosts: SimulatedHosts, web: RemoteHost) -> None:
    """Without a committed intent, the client sends nothing."""
    with pytest.raises(TargetError, match="committed intent"):
        await web.change("unit-restart", unit=UNIT, seconds=60.0)
    assert hosts.calls("web-1") == []


async def test_a_closed_port_is_unreachable(hosts: SimulatedHosts) -> None:
    """If nothing listens on the port, the error is Unreachable: nothing was sent."""
    with pytest.raises(Unreachable, match="nothing was sent"):
        await restart(client(hosts, "web-1", port=1))


async def test_a_silent_server_times_out(hosts: SimulatedHosts) -> None:
    """The time to connect is limited."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = client(hosts, "web-1", address="127.0.0.1", port=silent.getsockname()[1], connect_timeout="1s")
        with pytest.raises(Unreachable, match=r"nothing was sent|no connection"):
            await restart(host)


@pytest.mark.promise(8)
async def test_a_changed_host_key_is_an_error_with_the_next_action(hosts: SimulatedHosts) -> None:
    """The error about a changed host key names the cause and the next action."""
    other = hosts.folder / "other"
    keygen("-t", "ed25519", "-N", "", "-f", other)
    known = hosts.known_hosts.read_text()
    public = other.with_suffix(".pub").read_text().split()[1]
    hosts.known_hosts.write_text("".join(f"{line.rsplit(' ', 1)[0]} {public}\n" for line in known.splitlines()))

    with pytest.raises(Refused, match=r"not the one in .*known_hosts.*nothing was sent\. Find the reason"):
        await restart(client(hosts, "web-1"))
    assert hosts.calls("web-1") == []


async def test_an_unknown_host_key_is_refused(hosts: SimulatedHosts) -> None:
    """The client does not accept an unknown host key on the first connection."""
    hosts.known_hosts.write_text("")

    with pytest.raises(Refused, match="no key that proves"):
        await restart(client(hosts, "web-1"))
    assert (hosts.calls("web-1"), hosts.known_hosts.read_text()) == ([], "")


async def test_a_refused_key_is_not_followed_by_another_sign_in(hosts: SimulatedHosts) -> None:
    """If the host refuses the key, the client tries no other way to sign in."""
    hosts.authorize("web-1", key=hosts.host_key.with_suffix(".pub").read_text())
    with pytest.raises(Refused, match="does not accept the key"):
        await restart(client(hosts, "web-1"))


@pytest.mark.parametrize("options", ["", 'command="/bin/cat"', 'command="/bin/true"'])
async def test_a_key_without_the_wrapper_gets_no_request(hosts: SimulatedHosts, options: str) -> None:
    """The client sends no request to a key without our forced command."""
    hosts.authorize("web-1", options)
    with pytest.raises(ClientError, match=r"nothing was sent|not the greeting"):
        await restart(client(hosts, "web-1"))


async def test_the_allow_list_of_the_host_decides(hosts: SimulatedHosts, web: RemoteHost) -> None:
    """The host refuses every unit, verb, command or request that its allow-list lacks, whatever the client sends."""
    hosts.allow("web-1", units={UNIT: ["status"]})
    asked = [
        ("unit-restart", {"unit": UNIT}, "does not allow 'restart'"),
        ("unit-status", {"unit": "sshd.service"}, "does not allow 'status'"),
        ("unit-status", {"unit": "--now"}, "does not allow 'status'"),
        ("command", {"command": "reboot"}, "does not allow the command 'reboot'"),
        ("shell", {}, "does not know the request 'shell'"),
    ]
    for verb, given, said in asked:
        with in_attempt("attempt-1"), pytest.raises(Refused, match=said):
            await web.change(verb, seconds=60.0, **given)

    assert (hosts.calls("web-1"), hosts.markers("web-1")) == ([], [])


async def test_an_allow_list_that_others_can_write_allows_nothing(hosts: SimulatedHosts, web: RemoteHost) -> None:
    """An allow-list that other users can write allows nothing."""
    (hosts.place("web-1") / "allow-list.json").chmod(0o666)
    with pytest.raises(Refused, match="other users can change the allow-list"):
        await web.read("describe")


async def test_calls_share_one_connection(hosts: SimulatedHosts, web: RemoteHost) -> None:
    """Calls share one connection."""
    await web.read("describe")
    await web.read("describe")

    accepted = (hosts.folder / "sshd_0.log").read_text().count("Accepted publickey")
    assert accepted == 1


async def test_the_number_of_calls_at_once_is_limited(hosts: SimulatedHosts) -> None:
    """Calls beyond the limit of a host wait."""
    (hosts.place("web-1") / "hold").touch()
    host = client(hosts, "web-1", max_calls=2)
    calls = [asyncio.create_task(restart(host, f"attempt-{number}")) for number in range(5)]
    await asyncio.to_thread(until, lambda: len(hosts.calls("web-1")) >= 2, "two calls began")
    await client(hosts, "web-2").read("unit-status", unit=UNIT)  # calls of another host do not wait

    assert len(hosts.calls("web-1")) == 2
    (hosts.place("web-1") / "hold").unlink()
    await asyncio.gather(*calls)
    assert len(hosts.calls("web-1")) == 10


async def test_a_kill_before_the_marker_means_no_call(hosts: SimulatedHosts, web: RemoteHost) -> None:
    """If the wrapper is killed before it writes the marker, the call certainly never happens."""
    await restart(web, "attempt-0")
    markers = hosts.place("web-1") / "markers"
    folder = os.open(markers, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # the wrapper waits for this lock before it writes the marker
        call = asyncio.create_task(restart(web))
        await asyncio.to_thread(until, lambda: bool(opened(markers)), "the wrapper waits for the lock")
        for pid in opened(markers):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(TimedOut, match="outcome is unknown"):
            await call
    finally:
        os.close(folder)

    assert await settled(web) == []
    with pytest.raises(Refused, match="was closed"):
        await restart(web)
    assert hosts.calls("web-1") == [f"begun {UNIT}", f"done {UNIT}"], "only those of the first attempt"


def opened(folder: Path) -> list[int]:
    """Return the pids of the wrappers that have this folder open."""
    found = []
    for pid in processes("remediator-remote"):
        links = [_link(each) for each in Path(f"/proc/{pid}/fd").glob("*")]
        found += [pid] if str(folder) in links else []
    return found


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


async def test_a_kill_after_the_marker_does_not_repeat_the_call(hosts: SimulatedHosts, web: RemoteHost) -> None:
    """The program continues without the wrapper, its state is known, and nothing is repeated."""
    hold = hosts.place("web-1") / "hold"
    hold.touch()
    call = asyncio.create_task(restart(web))
    await begun(hosts)
    kill(str(hosts.place("web-1") / "allow-list.json"))
    with pytest.raises(TimedOut, match="outcome is unknown"):
        await call

    assert await settled(web) == [CallState.RUNNING]
    hold.unlink()
    assert await settled(web) == [CallState.UNKNOWN]
    assert hosts.calls("web-1") == [f"begun {UNIT}", f"done {UNIT}"]


async def test_the_client_is_killed_during_a_call(hosts: SimulatedHosts, web: RemoteHost, ssh_folder: Path) -> None:
    """The host finishes the call, and the next process reads the outcome from the marker.

    The shared connection is killed too; it would hold the pipes of the call open until the limit.
    """
    hold = hosts.place("web-1") / "hold"
    hold.touch()
    call = asyncio.create_task(restart(web))
    await begun(hosts)
    kill(str(ssh_folder))
    with pytest.raises(TimedOut, match="outcome is unknown"):
        await call
    hold.unlink()

    await asyncio.to_thread(until, lambda: len(hosts.calls("web-1")) == 2, "the restart ended")
    assert await settled(web) == [CallState.FINISHED]


async def test_the_server_is_killed_during_a_call(hosts: SimulatedHosts, web: RemoteHost) -> None:
    """If sshd is killed, the host finishes the call, and the next connection reads the outcome from the marker."""
    hold = hosts.place("web-1") / "hold"
    hold.touch()
    call = asyncio.create_task(restart(web))
    await begun(hosts)
    for pid in processes("sshd: root"):
        if str(hosts.folder) in "".join(map(_environment, _above(pid))):
            os.kill(pid, signal.SIGKILL)
    with pytest.raises(TimedOut, match="outcome is unknown"):
        await call
    hold.unlink()

    await asyncio.to_thread(until, lambda: len(hosts.calls("web-1")) == 2, "the restart ended")
    assert await settled(web) == [CallState.FINISHED]


def _above(pid: int) -> Iterator[int]:
    while pid > 1:
        yield pid
        pid = int(_read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()[1])


def _environment(pid: int) -> str:
    return _read(Path(f"/proc/{pid}/cmdline"))


async def test_a_call_that_takes_too_long_is_ended_by_the_host(hosts: SimulatedHosts, web: RemoteHost) -> None:
    """The host ends a call that takes too long, and the marker records this."""
    hold = hosts.place("web-1") / "hold"
    hold.touch()
    with pytest.raises(TimedOut, match="did not end within"):
        await restart(web, seconds=0.5)
    hold.unlink()

    marker = (hosts.place("web-1") / "markers" / "attempt-1.0").read_text()
    assert json.loads(marker[2048:])["error"] == "TimedOut"
    assert await settled(web) == [CallState.FINISHED]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a filesystem of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small filesystem")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> Path:
    """Use all free space of a filesystem."""
    file = folder / "full"
    with file.open("wb", buffering=0) as writing, pytest.raises(OSError, match="No space left"):
        while True:
            writing.write(b"x" * 4096)
    return file


async def test_a_full_disk(hosts: SimulatedHosts, web: RemoteHost, small_disk: Path) -> None:
    """If the disk is too full for a marker, nothing is done, and the error gives the reason."""
    hosts.allow("web-1", state=str(small_disk / "markers"))
    await restart(web, "attempt-0")
    full = fill(small_disk)
    with pytest.raises(Refused, match=r"cannot write a marker in .*: No space left on device; nothing was done"):
        await restart(web)
    assert len(hosts.calls("web-1")) == 2

    full.unlink()
    assert await settled(web) == [], "half a marker would have been one"


async def test_a_disk_that_fills_up_during_a_call(hosts: SimulatedHosts, web: RemoteHost, small_disk: Path) -> None:
    """The marker reserves space for the outcome, so a disk that fills up during the call does not lose it."""
    hosts.allow("web-1", state=str(small_disk / "markers"))
    hold = hosts.place("web-1") / "hold"
    hold.touch()
    call = asyncio.create_task(restart(web))
    await begun(hosts)
    full = fill(small_disk)
    hold.unlink()
    await call

    full.unlink()
    assert await settled(web) == [CallState.FINISHED]


async def test_a_jump_host_only_forwards(make_hosts: MakeHosts) -> None:
    """The jump host only forwards, and the client checks its host key too."""
    jump = make_hosts("jump", ["jump"])
    behind = make_hosts("behind", ["web-1"])
    jump.authorize("jump", "restrict,port-forwarding", behind.key.with_suffix(".pub").read_text())
    behind.known_hosts.write_text(behind.known_hosts.read_text() + jump.known_hosts.read_text())
    through = {"address": jump.host("jump")["address"], "user": jump.ssh["user"], "port": jump.port}
    await restart(client(behind, "web-1", proxy_jump=through))

    assert behind.calls("web-1") == [f"begun {UNIT}", f"done {UNIT}"]
    assert "Accepted publickey" in (jump.folder / "sshd_0.log").read_text()

    behind.known_hosts.write_text(behind.known_hosts.read_text().splitlines()[0] + "\n")
    with pytest.raises(Unreachable, match=r"through 127\.77\.0\.1, whose key must be in known_hosts, too; nothing was"):
        await client(behind, "web-1", proxy_jump=through, max_calls=3).read("describe")


async def test_only_a_valid_client_certificate_is_accepted(make_hosts: MakeHosts, tmp_path: Path) -> None:
    """A valid client certificate with the forced command is accepted without authorized_keys, an expired one is not."""
    authority = tmp_path / "authority"
    keygen("-t", "ed25519", "-N", "", "-f", authority)
    hosts = make_hosts("hosts", ["web-1"], lines=[f"TrustedUserCAKeys {authority}.pub"])
    (hosts.place("web-1") / "authorized_keys").write_text("")
    command = f"force-command=/usr/bin/env python3 -IS {hosts.wrapper} {hosts.place('web-1') / 'allow-list.json'}"
    public = hosts.key.with_suffix(".pub")
    with pytest.raises(Refused, match="does not accept the key"):
        await client(hosts, "web-1").read("describe")
    keygen(
        "-s", authority, "-I", "remediator", "-n", hosts.ssh["user"], "-V", "+1h", "-O", "clear", "-O", command, public
    )
    certificate = hosts.key.with_name(f"{hosts.key.name}-cert.pub")

    await restart(client(hosts, "web-1", certificate_file=str(certificate)))
    assert len(hosts.calls("web-1")) == 2

    keygen("-s", authority, "-I", "remediator", "-n", hosts.ssh["user"], "-V", "20200101:20200102", public)
    with pytest.raises(Refused, match="does not accept the key"):
        await client(hosts, "web-1", certificate_file=str(certificate), max_calls=3).read("describe")


async def test_a_host_certificate_authority_covers_all_hosts(make_hosts: MakeHosts, tmp_path: Path) -> None:
    """One line in known_hosts is enough for all hosts of a certificate authority."""
    authority = tmp_path / "authority"
    keygen("-t", "ed25519", "-N", "", "-f", authority)
    certificate = tmp_path / "hosts" / "host_key-cert.pub"
    (tmp_path / "hosts").mkdir()
    keygen("-t", "ed25519", "-N", "", "-f", tmp_path / "hosts" / "host_key")
    keygen("-s", authority, "-I", "web-1", "-h", "-n", "127.77.0.1", "-V", "+1h", tmp_path / "hosts" / "host_key.pub")
    hosts = make_hosts("hosts", ["web-1"], lines=[f"HostCertificate {certificate}"])
    hosts.known_hosts.write_text(f"@cert-authority * {authority.with_suffix('.pub').read_text()}")

    assert (await client(hosts, "web-1").read("describe"))["units"]


async def test_a_host_name_is_never_an_option(hosts: SimulatedHosts) -> None:
    """ssh never interprets a host name or another setting as an option."""
    for wrong in (
        {"address": "-oProxyCommand=reboot"},
        {"address": "web 1"},
        {"address": "web-1\nProxyCommand reboot"},
        {"user": "-l"},
        {"identity_file": "/tmp/a b"},
        {"known_hosts": "/tmp/%h"},
        {"proxy_jump": {"address": "-J"}},
    ):
        with pytest.raises(ValueError, match=r"pattern|would interpret"):
            client(hosts, "web-1", **wrong)


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    ("greeting", "answer", "error"),
    [
        ("[]", "", Refused),
        ('{"remediator-remote": 2}', "", Refused),
        ("[" * 100_000, "", Refused),
        ('{"remediator-remote": 1, "error": "Refused", "text": "no"}', "", Refused),
        ('{"remediator-remote": 1}', "[]", BadAnswer),
        ('{"remediator-remote": 1}', '{"error": "SystemExit", "text": ""}', BadAnswer),
        ('{"remediator-remote": 1}', "[" * 100_000, BadAnswer),
        ('{"remediator-remote": 1}', '{"ok": [{"state": "of another version"}]}', BadAnswer),
        ('{"remediator-remote": 1}', '{"ok": [3]}', BadAnswer),
        ('{"remediator-remote": 1}', '{"ok": [{"state": "finished", "outcome": 3}]}', BadAnswer),
    ],
)
async def test_an_invalid_answer_of_a_host_is_a_known_error(
    hosts: SimulatedHosts, greeting: str, answer: str, error: type[ClientError]
) -> None:
    """Every nonsense answer raises a known error, so the pipeline can decide whether the outcome is unknown."""
    script = hosts.folder / "nonsense"
    script.write_text(f"import sys\nprint({greeting!r}, flush=True)\ninput()\nprint({answer!r}, flush=True)\n")
    hosts.authorize("web-1", f'restrict,command="{sys.executable} {script}"')
    with pytest.raises(error):
        await settled(client(hosts, "web-1"))
