"""Thin, typed, asynchronous clients: one file per server, no decisions.

Every failure is one of `remediator.errors.ClientError`'s children, and the child says what it means for
the world, because that is what the caller has to decide on:

- ``Unreachable``: nothing was sent, so nothing happened there.
- ``TimedOut``: it was sent and no answer came back. For a call that changes something the outcome is
  unknown: look at the target, never send it again blindly.
- ``Refused``: the server understood and said no.
- ``BadAnswer``: the server said something that makes no sense; after a call that changes something this
  is as unknown as ``TimedOut``.

No client retries anything, follows a redirect, reads proxy settings from the environment, or answers with more
than it was told to keep.
"""
