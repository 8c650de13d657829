"""States of a real Redis that end without help, that are unknown, or that belong to an earlier process."""

from __future__ import annotations

import os
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.support.redis_bench import KEYS, Bench, Untouched, both, causes, refusal, said
from tests.support.servers import until

pytestmark = [pytest.mark.process, pytest.mark.long]


def load_slowly(bench: Bench, *, seconds: int = 20, answers_meanwhile: bool = True) -> None:
    """Restart Redis so that it loads for some time, and answers LOADING or does not answer meanwhile."""
    with bench.client() as client:
        client.mset({f"big:{number}": os.urandom(2048) for number in range(KEYS)})
        client.execute_command("BGREWRITEAOF")
        until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "rewritten")
    with bench.configuration.open("a") as file:
        file.write(f"key-load-delay {seconds * 1_000_000 // (2 * KEYS)}\n")
        if answers_meanwhile:
            file.write("loading-process-events-interval-bytes 1024\n")
    bench.control("stopProcess")
    bench.control("startProcess", False)
    sign = "is loading" if answers_meanwhile else "Timeout reading"
    until(lambda: sign in refusal(bench), "Redis loads")


@both("bench")
def test_a_loading_redis_is_waited_for(bench: Bench) -> None:
    """The run waits and shows the progress, and succeeds without a restart."""
    load_slowly(bench)
    starts = bench.starts
    run = bench.judge()
    assert (causes(run), run["status"], bench.starts) == ({"loading"}, "succeeded", starts)
    assert "% loaded" in " ".join(item["summary"] for item in run["evidence"] if item["name"] == "wait")


@both("bench")
def test_a_loading_redis_that_does_not_answer_is_waited_for(bench: Bench) -> None:
    """While Redis loads a big value, it does not answer. The cause is loading, and Redis is not restarted."""
    load_slowly(bench, seconds=40, answers_meanwhile=False)
    starts = bench.starts
    run = bench.judge()
    assert (causes(run), run["status"], bench.starts) == ({"loading"}, "succeeded", starts)
    with bench.client() as client:
        assert client.dbsize() == 2 * KEYS


def test_loading_without_an_answer_beyond_the_deadline(bench: Bench) -> None:
    """After the deadline, a person is notified that Redis still loads, and no restart is planned."""
    bench.remediator.stop()
    bench.change("redis-down", "wait", within="2s")
    bench.start_remediator()
    load_slowly(bench, seconds=90, answers_meanwhile=False)
    starts = bench.starts
    run = bench.judge()
    assert (causes(run), run["status"], bench.starts) == ({"loading"}, "escalated", starts)


def test_a_state_that_is_not_known(bench: Bench) -> None:
    """A renamed command gives an unknown error: the message of Redis is shown, and a person decides."""
    with bench.configuration.open("a") as file:
        file.write('rename-command PING ""\n')
    bench.control("stopProcess")
    bench.control("startProcess")
    before = Untouched(bench)
    run = bench.judge()
    assert (causes(run), run["status"]) == ({"refusing"}, "escalated")
    assert "unknown command" in said(run, "ping")
    before.check()


@pytest.mark.parametrize("answer", [b"-MIGRATING this slot leaves\r\n", b"-ERR upstream failure\r\n", b"+SERENE\r\n"])
def test_an_answer_of_a_later_version_or_of_a_proxy(bench: Bench, answer: bytes) -> None:
    """An unknown answer is never a reason to act on Redis."""
    before = Untouched(bench)
    bench.remediator.stop()
    bench.binding["port"] = bench.calls.enter_context(answering(answer))
    bench.start_remediator()
    run = bench.judge()
    assert run["status"] == "escalated" and causes(run) <= {"refusing", "wrong-server"}
    before.check()


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Answer every command in the same way, and yield the port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                while self.request.recv(4096):
                    self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def test_the_log_of_an_earlier_process_is_no_evidence(bench: Bench) -> None:
    """Lines of an earlier failed start do not count, so Redis is started."""
    good = bench.configuration.read_text()
    bench.control("stopProcess")
    bench.configuration.write_text(good + "maxmemory-polcy allkeys-lru\n")
    with suppress(Exception):  # the process ends at once
        bench.control("startProcess")
    until(lambda: "FATAL CONFIG FILE ERROR" in log_of(bench), "the start that fails has logged why")
    bench.configuration.write_text(good)
    bench.control("startProcess")
    starts = bench.starts
    bench.kill()
    run = bench.judge()
    assert (causes(run), run["status"], bench.starts) == ({"down"}, "succeeded", starts + 1)


def log_of(bench: Bench) -> str:
    """Return the log of Redis with all its starts."""
    return next(bench.supervisord.folder.glob("redis-stdout*")).read_text()


def test_loading_beyond_the_deadline(bench: Bench) -> None:
    """The wait ends at its deadline, and a person is notified with the progress; Redis is not restarted."""
    bench.remediator.stop()
    bench.change("redis-down", "wait", within="2s")
    bench.start_remediator()
    load_slowly(bench, seconds=90)
    starts = bench.starts
    run = bench.judge()
    assert (causes(run), run["status"], bench.starts) == ({"loading"}, "escalated", starts)
    assert "% loaded" in said(run, "wait")


def test_an_alert_whose_label_names_need_quotes(bench: Bench) -> None:
    """The alert is handled as any other, and its resolution closes the incident."""
    labels = {"label with space": "x", "brace{": "y"}
    bench.kill()
    run = bench.judge(**labels)
    assert (causes(run), run["status"], bench.starts) == ({"down"}, "succeeded", 2)
    ends = {"alertname": "RedisDown", "service": "redis", "instance": "redis", **labels}
    assert bench.remediator.post(bench.remediator.notification("resolved", **ends))[0] == 200
    until(lambda: not bench.remediator.get("/api/v1/incidents")[0]["runs"][0]["fires"], "the alert is over")
