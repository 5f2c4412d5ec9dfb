"""How soon each end of a connection to PostgreSQL notices that the other one has vanished without a word."""

from __future__ import annotations

from collections.abc import Mapping

SILENCE_SECONDS = 10

KEEPALIVES: Mapping[str, int] = {
    "keepalives_idle": SILENCE_SECONDS // 2,
    "keepalives_interval": 1,
    "keepalives_count": SILENCE_SECONDS // 2,
}
"""Parameters of libpq for our end. Those of the server have the same names after `tcp_`."""
