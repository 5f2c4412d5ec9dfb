"""The client of the HTTP API: `Client` blocks, `AsyncClient` is awaited. They have the same operations.

An operation is a generator of steps (`steps`), written once. `transports` takes the steps for either client.

May import: assembly and below.
"""

from embedfleet.client.clients import AsyncClient, Client
from embedfleet.client.patience import Patience

__all__ = ["AsyncClient", "Client", "Patience"]
