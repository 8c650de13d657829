"""``unknown-channel``: the settings file has no such channel."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.playbooks.diagnostics import Diagnostic, did_you_mean


class UnknownChannel(Rule):
    """Channels that a playbook escalates to and the settings file does not have."""

    id = "unknown-channel"
    what = "A playbook escalates to a channel that the settings file does not define."
    why = "The message is written to the log only, and no person is notified."
    mend = "add the channel to the settings file, or correct its name"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        channels = context.channels
        for playbook in context.playbooks if channels is not None else ():
            for at, name in enumerate(playbook.escalate.to):
                if name not in (channels or ()):
                    hint = did_you_mean(name, channels or ()) or self.mend
                    message = f"the settings file has no channel {name!r}"
                    yield self.at(context, playbook, ("escalate", "to", at), message, hint)
