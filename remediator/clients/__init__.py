"""Thin, typed, asynchronous clients: one package per server, no decisions.

Every failure is a subclass of `remediator.errors.ClientError`. The class states whether the call had an effect, since
the caller decides on that:

- ``Unreachable``: nothing was sent, so the call had no effect.
- ``TimedOut``: the call was sent and not answered. If it changes something, the outcome is unknown: observe the
  target, and never send the call again without observing.
- ``Refused``: the server rejected the call.
- ``BadAnswer``: the answer is invalid. If the call changes something, the outcome is unknown, as with ``TimedOut``.

No client retries, follows redirects, reads proxy settings from the environment, or keeps more of an answer than its
limit.
"""
