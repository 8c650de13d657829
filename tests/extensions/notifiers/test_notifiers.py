"""All channels: the message contains the facts, labels stay plain text, and errors are classified."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
import yaml
from aiosmtpd.controller import Controller

from remediator.errors import ConfigurationError, Unreachable
from remediator.extensions.notifiers.base import Ask, Message, Notifier, PermanentFailure, RetryAfter, Section, Tone
from remediator.extensions.registry import Registry
from tests.support.guard_history import NOON
from tests.support.servers import free_port
from tests.support.servers.receivers import receiver

pytestmark = pytest.mark.filterwarnings("ignore:.*imghdr:DeprecationWarning")  # required by Apprise

EVIL = "<!channel> @everyone <https://evil.example|click> [x](https://evil.example) `*_~ <b>&amp;</b> ```"
LINK = "https://remediator.example/approve/v.t.m"

MESSAGE = Message(
    id="message-1",
    run_id="run-1",
    kind="approval",
    title=f"Approve? redis-down on redis {EVIL}",
    tone=Tone.ASK,
    sections=(
        Section("Alerts", (f"RedisDown {{path={EVIL}}} firing",)),
        Section("Planned calls", ("restart redis",), True),
    ),
    ask=Ask("approval-1", NOON + timedelta(minutes=15), "any approver", LINK, {"approve": "token", "reject": "token"}),
    link="https://remediator.example/runs/run-1",
    body={"run": "run-1"},
    incident="incident-1",
    severity="warning",
)
HEALED = replace(MESSAGE, kind="update", title="Healed", tone=Tone.GOOD, ask=None, announce=True, over=True)
SILENT = replace(HEALED, title="In progress", tone=Tone.NOTE, announce=False, over=False)


def settings(kind: str, folder: Path) -> dict[str, Any]:
    """Return valid settings of a notifier."""
    secret = folder / "secret"
    secret.write_text("s3cret-value-of-the-channel")
    hook = folder / "hook"
    hook.write_text("https://hooks.example/services/T0/B0/s3cret-value-of-the-channel?key=k")
    urls = folder / "urls"
    urls.write_text("json://127.0.0.1:1/")
    by_kind: dict[str, dict[str, Any]] = {
        "slack": {"token_file": str(secret), "channel": "C1"},
        "telegram": {"token_file": str(secret), "chat": "-1"},
        "pagerduty": {"key_file": str(secret)},
        "opsgenie": {"key_file": str(secret)},
        "email": {
            "to": ["ann@example.com"],
            "sender": "remediator@example.com",
            "port": free_port(),
            "host": "127.0.0.1",
        },
        "apprise": {"url_file": str(urls)},
        "log": {},
    }
    return by_kind.get(kind, {"url_file": str(hook)})


KINDS = {notifier.kind: notifier for notifier in Registry().notifiers}
HTTP = sorted(set(KINDS) - {"email", "log", "apprise"})
ANSWERS = {
    "slack": {"ok": True, "channel": "C1", "ts": "1.2"},
    "telegram": {"ok": True, "result": {"message_id": 7}},
    "discord": {"id": "9"},
}


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Notifier]:
    """Return a notifier of the kind that the test names."""
    yield KINDS[request.param](settings(request.param, tmp_path))


def bodies(router: respx.MockRouter) -> list[Any]:
    """Return the JSON bodies of all requests."""
    return [json.loads(call.request.content) for call in router.calls]


@pytest.mark.parametrize("made", HTTP, indirect=True)
async def test_the_facts_arrive_once(made: Notifier) -> None:
    """One request contains the alert, the planned call and the link."""
    async with respx.mock(assert_all_called=False) as router:
        router.route().mock(return_value=httpx.Response(200, json=ANSWERS.get(made.kind, {})))
        await made.send(MESSAGE)
        [body] = bodies(router)
    await made.aclose()
    text = json.dumps(body)
    assert "restart redis" in text and "RedisDown" in text and LINK in text


@pytest.mark.parametrize("made", HTTP, indirect=True)
@pytest.mark.parametrize(
    ("status", "error"), [(400, PermanentFailure), (404, PermanentFailure), (429, RetryAfter), (500, Exception)]
)
async def test_errors_are_classified_and_contain_no_secret(made: Notifier, status: int, error: type[Exception]) -> None:
    """4xx is permanent, 429 is a rate limit, 5xx is temporary; no error contains the URL or the key."""
    async with respx.mock(assert_all_called=False) as router:
        router.route().mock(return_value=httpx.Response(status, headers={"Retry-After": "7"}, text="no"))
        with pytest.raises(error) as raised:
            await made.send(MESSAGE)
    await made.aclose()
    assert "s3cret" not in str(raised.value) and "hooks.example/" not in str(raised.value)
    if isinstance(raised.value, RetryAfter):
        assert raised.value.seconds == 7


@pytest.mark.parametrize("made", HTTP, indirect=True)
async def test_an_outage_is_unreachable(made: Notifier) -> None:
    """Without a connection, sending is retried later; the error does not contain the URL."""
    async with respx.mock(assert_all_called=False) as router:
        router.route().mock(side_effect=httpx.ConnectError("no route to hooks.example/s3cret"))
        with pytest.raises(Unreachable) as raised:
            await made.send(MESSAGE)
    await made.aclose()
    assert "s3cret" not in str(raised.value)


async def test_slack_shows_labels_as_plain_text(tmp_path: Path) -> None:
    """Rich text is literal, the fallback text is escaped, links are not unfurled, and buttons have signed values."""
    slack = KINDS["slack"](settings("slack", tmp_path))
    async with respx.mock as router:
        router.post("https://slack.com/api/chat.postMessage").respond(json=ANSWERS["slack"])
        router.post("https://slack.com/api/chat.update").respond(json=ANSWERS["slack"])
        delivery = await slack.send(MESSAGE)
        await slack.update(HEALED, delivery.receipt)
        sent, updated, reply = bodies(router)
        assert router.calls[0].request.headers["authorization"] == "Bearer s3cret-value-of-the-channel"
    await slack.aclose()
    assert "<!channel>" not in sent["text"] and "&lt;!channel&gt;" in sent["text"]
    assert not any(part.get("type") == "mrkdwn" for part in _parts(sent["blocks"]))
    assert sent["unfurl_links"] is False and sent["unfurl_media"] is False
    actions = {part["action_id"]: part for part in _parts(sent["blocks"]) if "action_id" in part}
    assert actions["remediator.approve"]["value"] == "token" and actions["remediator.open"]["url"] == LINK
    assert (updated["ts"], reply["thread_ts"]) == ("1.2", "1.2")


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _parts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _parts(item)


async def test_slack_errors_with_status_200(tmp_path: Path) -> None:
    """``ok: false`` is an error: permanent for a wrong token or channel, temporary for a rate limit."""
    slack = KINDS["slack"](settings("slack", tmp_path))
    async with respx.mock as router:
        route = router.post("https://slack.com/api/chat.postMessage")
        for answer, error in (
            ({"ok": False, "error": "invalid_auth"}, PermanentFailure),
            ({"ok": False, "error": "ratelimited"}, RetryAfter),
        ):
            route.respond(json=answer)
            with pytest.raises(error):
                await slack.send(MESSAGE)
    await slack.aclose()


async def test_teams_uses_text_runs_only(tmp_path: Path) -> None:
    """The card uses TextRun, which does not interpret Markdown, instead of TextBlock."""
    teams = KINDS["teams"](settings("teams", tmp_path))
    async with respx.mock as router:
        router.route().respond(202)
        await teams.send(MESSAGE)
        [body] = bodies(router)
    await teams.aclose()
    card = body["attachments"][0]["content"]
    assert {part["type"] for part in card["body"]} == {"RichTextBlock"}
    assert card["actions"][0]["url"] == LINK


async def test_discord_has_no_mentions_and_updates_in_place(tmp_path: Path) -> None:
    """allowed_mentions is empty, labels stay in a code block, and an update edits the message."""
    discord = KINDS["discord"](settings("discord", tmp_path))
    async with respx.mock(assert_all_called=False) as router:
        router.route().respond(json={"id": "9"})
        delivery = await discord.send(MESSAGE)
        await discord.update(HEALED, delivery.receipt)
        first, second, line = router.calls
    await discord.aclose()
    assert json.loads(line.request.content)["embeds"][0]["fields"] == [], "an edit notifies nobody: one line does"
    body = json.loads(first.request.content)
    assert body["allowed_mentions"] == {"parse": []}
    for field in body["embeds"][0]["fields"]:
        assert field["value"].count("```") == 2
    assert "://evil" not in body["embeds"][0]["title"]
    assert second.request.method == "PATCH" and second.request.url.path.endswith("/messages/9")


async def test_mattermost_keeps_label_text_in_code(tmp_path: Path) -> None:
    """Backquotes cannot end the code block, and a code block has no mentions."""
    mattermost = KINDS["mattermost"](settings("mattermost", tmp_path))
    async with respx.mock as router:
        router.route().respond(200, text="ok")
        await mattermost.send(MESSAGE)
        [body] = bodies(router)
    await mattermost.aclose()
    text = body["attachments"][0]["text"]
    assert text.count("```") == 4
    outside = "".join(text.split("```")[::2])
    assert "@everyone" not in outside.replace(outside.splitlines()[0], "")


@pytest.mark.parametrize("made", ["telegram", "google_chat"], indirect=True)
async def test_html_is_escaped(made: Notifier) -> None:
    """Markup in a label is escaped, and link previews are off."""
    async with respx.mock as router:
        router.route().respond(json=ANSWERS.get(made.kind, {}))
        await made.send(MESSAGE)
        [body] = bodies(router)
    await made.aclose()
    text = body.get("text") or body["cardsV2"][0]["card"]["sections"][0]["widgets"][0]["textParagraph"]["text"]
    assert "<https" not in text and "&lt;b&gt;&amp;amp;" in text
    if made.kind == "telegram":
        assert body["link_preview_options"] == {"is_disabled": True}


@pytest.mark.parametrize(
    ("kind", "opens", "closes"), [("pagerduty", "trigger", "resolve"), ("opsgenie", "alerts", "close")]
)
async def test_pager_alert_is_closed_with_the_incident(kind: str, opens: str, closes: str, tmp_path: Path) -> None:
    """An incident creates one pager alert, which is closed with the incident. Silent updates send nothing."""
    notifier = KINDS[kind](settings(kind, tmp_path))
    async with respx.mock as router:
        router.route().respond(202, json={})
        delivery = await notifier.send(MESSAGE)
        await notifier.update(SILENT, delivery.receipt)
        await notifier.update(HEALED, delivery.receipt)
        first, second = [f"{call.request.url.path} {call.request.content.decode()}" for call in router.calls]
    await notifier.aclose()
    assert opens in first and closes in second and "incident-1" in first and "incident-1" in second


@pytest.mark.parametrize(
    ("kind", "name", "field", "expected"),
    [
        ("pagerduty", "dedup_key", "severity", ["warning", "critical", "info"]),
        ("opsgenie", "alias", "priority", ["P3", "P1", "P5"]),
    ],
)
async def test_severity_follows_the_alert_and_one_incident_has_one_key(
    kind: str, name: str, field: str, expected: list[str], tmp_path: Path
) -> None:
    """A request, an escalation and a notice about one incident have the same key and the severity of the alert."""
    notifier = KINDS[kind](settings(kind, tmp_path))
    needed = replace(MESSAGE, id="message-2", kind="escalation", ask=None, tone=Tone.PROBLEM, severity="critical")
    note = replace(MESSAGE, id="message-3", kind="notice", ask=None, tone=Tone.NOTE)
    async with respx.mock() as router:
        router.route().mock(return_value=httpx.Response(202, json={}))
        for message in (MESSAGE, needed, note):
            await notifier.send(message)
        sent = bodies(router)
    await notifier.aclose()
    assert len({body[name] for body in sent}) == 1
    assert [body.get(field) or body["payload"][field] for body in sent] == expected


@pytest.mark.parametrize("made", ["teams", "mattermost", "google_chat"], indirect=True)
async def test_a_channel_that_cannot_edit_gets_one_short_message(made: Notifier) -> None:
    """Silent updates send nothing; at the end, the channel gets only the title and the result."""
    done = replace(HEALED, sections=(Section("Result", ("Healed",)), *MESSAGE.sections))
    async with respx.mock as router:
        router.route().respond(json=ANSWERS.get(made.kind, {}))
        delivery = await made.send(MESSAGE)
        await made.update(SILENT, delivery.receipt)
        await made.update(done, delivery.receipt)
        first, last = [call.request.content.decode() for call in router.calls]
    await made.aclose()
    assert "restart redis" in first and "restart redis" not in last and "Healed" in last


@pytest.mark.parametrize(
    ("made", "mentions", "expected"),
    [
        ("slack", ["U0123456789", "S0123456789", "here"], '"usergroup_id":"S0123456789"'),
        ("discord", ["@12345678", "&87654321"], "<@12345678> <@&87654321>"),
        ("telegram", ["@ann_sre"], "@ann_sre"),
        ("mattermost", ["@ann"], '"text":"@ann"'),
        ("teams", ["ann@example.com"], "<at>ann@example.com</at>"),
        ("google_chat", ["users/123456"], "<users/123456>"),
    ],
    indirect=["made"],
)
async def test_people_are_mentioned_only_when_they_are_needed(
    made: Notifier, mentions: list[str], expected: str, tmp_path: Path
) -> None:
    """The settings of the channel name the people; the text of an alert never mentions a person."""
    notifier = KINDS[made.kind]({**settings(made.kind, tmp_path), "mentions": mentions})
    async with respx.mock as router:
        router.route().respond(json=ANSWERS.get(made.kind, {}))
        await notifier.send(replace(MESSAGE, mention=True))
        await notifier.send(replace(MESSAGE, mention=False))
        needed, other = [call.request.content.decode() for call in router.calls]
    await notifier.aclose()
    await made.aclose()
    assert expected in needed and expected not in other


async def test_telegram_repeated_edit_is_success(tmp_path: Path) -> None:
    """If Telegram refuses a repeated edit as unchanged, the first edit has succeeded, and the update counts as sent."""
    telegram = KINDS["telegram"](settings("telegram", tmp_path))
    same = {"ok": False, "description": "Bad Request: message is not modified"}
    async with respx.mock() as router:
        router.post(path__regex="editMessageText$").respond(400, json=same)
        told = router.post(path__regex="sendMessage$").respond(200, json=ANSWERS["telegram"])
        await telegram.update(HEALED, {"message": 7})
        assert told.called
        router.post(path__regex="editMessageText$").respond(400, json={"description": "message to edit not found"})
        with pytest.raises(PermanentFailure):
            await telegram.update(HEALED, {"message": 7})
    await telegram.aclose()


async def test_the_webhook_signs_what_it_sends(tmp_path: Path) -> None:
    """The receiver gets JSON with the link, the bearer token, and an HMAC of the body."""
    key = tmp_path / "key"
    key.write_text("k" * 20)
    with receiver() as chat:
        webhook = KINDS["webhook"]({"url": chat.url + "/hook", "secret_file": str(key), "token_file": str(key)})
        await webhook.send(MESSAGE)
        await webhook.aclose()
    [got] = chat.received
    assert got.path == "/hook" and got.json["ask"]["link"] == LINK and got.json["id"] == "message-1"
    assert (
        got.headers["x-remediator-signature"] == "sha256=" + hmac.new(b"k" * 20, got.body, hashlib.sha256).hexdigest()
    )
    assert got.headers["authorization"] == "Bearer " + "k" * 20


class Mailbox:
    """A mail server that stores mails, or answers with ``refuse`` if that is set."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []
        self.refuse = ""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.refuse:
            return self.refuse
        self.mails.append(envelope.content)
        return "250 taken"


async def test_mail_is_text_and_html_and_one_thread(tmp_path: Path) -> None:
    """Headers cannot be injected, HTML is escaped, and the update is a reply to the request."""
    box = Mailbox()
    port = free_port()
    controller = Controller(box, "127.0.0.1", port)
    controller.start()
    try:
        mail = KINDS["email"]({**settings("email", tmp_path), "port": port, "personal": True})
        assert mail.person == "ann@example.com"
        delivery = await mail.send(MESSAGE)
        await mail.update(HEALED, delivery.receipt)
        box.refuse = "550 no such user"
        with pytest.raises(PermanentFailure):
            await mail.send(MESSAGE)
        box.refuse = "451 later"
        with pytest.raises(Unreachable):
            await mail.send(MESSAGE)
    finally:
        controller.stop()
    first, second = (message_from_bytes(raw, policy=default) for raw in box.mails)
    plain, html = (first.get_body((kind,)) for kind in ("plain", "html"))
    assert plain is not None and html is not None
    assert LINK in plain.get_content() and LINK in html.get_content()
    assert "<b>&amp;" not in html.get_content() and "&lt;!channel&gt;" in html.get_content()
    assert second["In-Reply-To"] == first["Message-ID"]


async def test_missing_mail_server_is_unreachable(tmp_path: Path) -> None:
    """The error is temporary: sending is retried."""
    with pytest.raises(Unreachable):
        await KINDS["email"](settings("email", tmp_path)).send(MESSAGE)


async def test_apprise_delivers_plain_text(tmp_path: Path) -> None:
    """A service behind Apprise gets the message as plain text."""
    with receiver() as chat:
        (tmp_path / "urls").write_text(chat.url.replace("http://", "json://"))
        apprise = KINDS["apprise"]({"url_file": str(tmp_path / "urls")})
        await apprise.send(MESSAGE)
    assert "restart redis" in chat.received[0].json["message"]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_invalid_settings_are_refused(kind: str, tmp_path: Path) -> None:
    """An unknown or missing key is an error at the start of the service, not at the first message."""
    with pytest.raises(ConfigurationError):
        KINDS[kind]({**settings(kind, tmp_path), "nonsense": 1})


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_file_name_and_docs_agree(kind: str) -> None:
    """A notifier has the name of its module and of its section in docs/notifiers.md; the section begins with an
    example."""
    assert KINDS[kind].__module__ == f"remediator.extensions.notifiers.{kind}"
    page = Path(__file__).parents[3] / "docs" / "notifiers.md"
    example = page.read_text().partition(f"\n## {kind}\n\n```yaml\n")[2].partition("\n```")[0]
    assert yaml.safe_load(example)["kind"] == kind


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "telegram: missing setting 'token_file'"),
        ({"token_file": "t", "chat": "1", "chanel": "x"}, "telegram: unknown setting 'chanel'"),
    ],
)
def test_error_names_the_setting(settings: dict[str, str], said: str) -> None:
    """The error names the setting as it is written in the settings file."""
    with pytest.raises(ConfigurationError, match=said):
        KINDS["telegram"](settings)
