"""What both clients can do."""

from __future__ import annotations

from embedfleet.client.calls import identity
from embedfleet.client.transports import Operation


class Operations:
    """The operations. `Client` returns their results, `AsyncClient` something to await for them.

    An error is that of our tree which a caller in the server's process would have met. Any operation may
    raise ServerUnavailable and AccessDenied.
    """

    me = Operation(identity.me)
