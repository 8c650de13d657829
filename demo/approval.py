"""``make demo-approve``: the disk of Redis fills, a person approves the remedy by a link in a chat, and it is fixed.

Without BY_HAND=1, the demonstration opens the page and presses its button as a person would. With it, link and token
are printed, and the demonstration waits for you. At the end the pages stay until you press Enter. In both cases it
first opens the link as robots do, which must change nothing, and opens the same link again at the end.
"""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import httpx
import yaml
from rich.console import Console
from rich.markup import escape

from demo import changed
from demo.chat import Chat, chat
from demo.faults import disk_backups
from demo.probe import Probe
from demo.stack import processes
from demo.stack.settings import ROOT, StackError, from_environment
from remediator.core.identity import hash_token, make_token

PATIENCE = 600.0
"""Timeout of each part in seconds; a person has the 15 minutes of the request."""
PERSON = "ann"
OVER = frozenset({"succeeded", "failed", "escalated", "cancelled"})


class Story:
    """One approval, printed line by line and checked independently of the remediator."""

    def __init__(self, probe: Probe, console: Console, received: Chat, token: str, *, by_hand: bool) -> None:
        self._probe = probe
        self._console = console
        self._chat = received
        self._token = token
        self._by_hand = by_hand

    def tell(self) -> None:
        """Run the whole demonstration.

        Raises:
            StackError: a promise is broken.
        """
        self._say(f"[bold]{disk_backups.TELLS}[/bold]")
        disk_backups.inject(self._probe)
        asked = self._asked()
        link, run_id = str(asked["ask"]["link"]), str(asked["run"])
        self._robots(link, run_id)
        if self._by_hand:
            self._say(f"your turn; the operator token of {PERSON} is {self._token}")
            self._say(f"open {link}")
        else:
            self._decide(link)
        self._follow(run_id)
        self._look_again(link)
        self._record(run_id)
        if self._by_hand:
            self._say("look at the run and at the link as long as you like; then press Enter: the stack stops")
            sys.stdin.readline()

    def _asked(self) -> dict[str, Any]:
        found: list[dict[str, Any]] = []

        def arrived() -> bool:
            found[:] = [item for item in list(self._chat.messages) if item.get("ask")]
            return bool(found)

        processes.wait(arrived, "the question in the chat", PATIENCE)
        message = found[0]
        self._say(f"in the chat: [bold]{escape(str(message['title']))}[/bold]")
        for section in message["sections"]:
            for line in section["lines"]:
                self._say(f"             {escape(str(section['heading']))}: {escape(str(line))}")
        return message

    def _robots(self, link: str, run_id: str) -> None:
        """Open the link as robots do: unfurling, prefetching, scanning."""
        with httpx.Client(headers={"User-Agent": "Slackbot-LinkExpanding 1.0"}, timeout=60) as robot:
            for method in ("HEAD", "GET", "GET"):
                robot.request(method, link).raise_for_status()
            robot.post(link, data={"verb": "approve", "token": self._token})
        self._demand(self._status(run_id) == "awaiting_approval", "a robot's visit changed the run")
        self._demand(disk_backups.percent(self._probe) > disk_backups.WELL, "an action ran before a person decided")
        self._say("robots opened the link and posted to it: the run still waits, the disk is still full")

    def _decide(self, link: str) -> None:
        with httpx.Client(timeout=60) as browser:
            page = browser.get(link).text
            found = re.search(r'name="nonce" value="([^"]+)"', page)
            self._demand(found is not None, "the page has no form")
            assert found is not None
            said = {
                "nonce": found[1],
                "verb": "approve",
                "token": self._token,
                "typed": "redis",
                "reason": "checked, go ahead",
            }
            browser.post(link, data=said, follow_redirects=True).raise_for_status()
        self._say(f"{PERSON} read the page and pressed Approve")

    def _follow(self, run_id: str) -> None:
        told, until = 0, time.monotonic() + (900 if self._by_hand else PATIENCE)
        while time.monotonic() < until:
            run = self._probe.run(run_id) or {"timeline": [], "status": "not known"}
            for event in run["timeline"][told:]:
                self._say(f"remediator: {escape(event['text'][:160])}")
            told = max(told, len(run["timeline"]))
            if run["status"] in OVER:
                break
            time.sleep(0.2)
        self._demand(self._status(run_id) == "succeeded", f"the run is {self._status(run_id)}")
        proof = disk_backups.healed(self._probe)
        self._demand(proof is not None, "our own check does not see the disk healed")
        self._say(f"[green]healed, checked independently:[/green] {proof}")

    def _look_again(self, link: str) -> None:
        text = html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", httpx.get(link, timeout=60).text)))
        found = re.search(rf"Approved at [0-9: -]+Z by {PERSON}", text)
        self._demand(found is not None, "the link does not show who approved and when")
        assert found is not None
        self._say(f"the same link, opened again: [bold]{found[0]}[/bold]")

    def _record(self, run_id: str) -> None:
        argv = [sys.executable, "-m", "remediator", "audit", "search", "--run", run_id]
        argv += ["--db", str(self._probe.settings.database)]
        log = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT).stdout
        decided = [line for line in log.splitlines() if "approval." in line]
        self._demand(
            any("approval.decided" in line and PERSON in line for line in decided), "the audit log has no such decision"
        )
        self._console.print("[bold]in the audit log[/bold]")
        for line in decided:
            self._console.print(escape(line), highlight=False, style="dim", overflow="ellipsis", no_wrap=True)

    def _status(self, run_id: str) -> str:
        return str((self._probe.run(run_id) or {}).get("status"))

    def _demand(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise StackError(otherwise)

    def _say(self, text: str) -> None:
        self._console.print(f"  {text}", highlight=False, soft_wrap=True)


def main(environment: Mapping[str, str]) -> int:
    """Return the exit status: 0 if every check held."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    try:
        settings = from_environment(environment)
        ours = not processes.running(settings)
        try:
            _demonstrate(Probe(settings), console, by_hand=environment.get("BY_HAND", "") not in ("", "0"))
        finally:
            if ours:
                processes.down(settings)
    except StackError as error:
        console.print(escape(str(error)), style="red", highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted", style="red")
        return 1
    console.print("approved by a person, healed, verified, recorded in the audit log")
    return 0


def _demonstrate(probe: Probe, console: Console, *, by_hand: bool) -> None:
    if not processes.running(probe.settings):
        processes.forget(probe.settings)
    console.print("[bold]starting[/bold] the local stack …", highlight=False)
    processes.up(probe.settings)
    if (why := disk_backups.needs(probe)) is not None:
        raise StackError(f"demonstration skipped: {why}")
    token = make_token()
    people = {"kind": "People", "people": {PERSON: {"roles": ["approver"], "tokens": [hash_token(token)]}}}
    probe.settings.remediator_yaml.with_name("people.yaml").write_text(yaml.safe_dump(people))
    with chat() as received, changed.settings(probe, _asking(received)):
        processes.wait(probe.targets_up, "all targets of Prometheus to be up", PATIENCE)
        processes.wait(probe.watchdog_heard, "the Watchdog alert to reach the remediator", PATIENCE)
        Story(probe, console, received, token, by_hand=by_hand).tell()


def _asking(received: Chat) -> dict[str, Any]:
    """Remove the mode of this environment: the playbook then asks, as shipped."""
    return {
        "environment": "demo-approve",
        "access": {"people": "people.yaml"},
        "channels": {"chat": {"kind": "webhook", "url": received.url}},
        "approvals": {"channels": ["chat"]},
    }


if __name__ == "__main__":
    sys.exit(main(os.environ))
