"""Decides which path a request goes. It is a pure function, the same in every process.

A document, or a tenant with all its documents, falls into one of 10,000 buckets. The buckets below the
percentage go to the fleet. So a decision is sticky, and a higher percentage moves none back.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from embedfleet.traffic.paths import Path
from embedfleet.traffic.state import TrafficState

BUCKETS = 10_000
"""A bucket is a hundredth of a percent."""

# It keeps these buckets apart from any other hash of the same names. It must never change: another prefix
# moves documents between the paths.
_PREFIX = b"embedfleet traffic 1\0"


@lru_cache(maxsize=65_536)  # a hit takes a tenth of the time of a hash
def bucket(tenant: str, media_id: str | None = None) -> int:
    """Return the bucket of a tenant, or of a document: 0 to 9,999.

    It is the first 8 bytes of SHA-256, big-endian, modulo 10,000. The length of the tenant's name is hashed
    before it, so that no two pairs of names give the same bytes. The bias of the modulo is below 1e-15.
    """
    name = tenant.encode("utf-8", "surrogatepass")
    key = b"%s%d\0%s" % (_PREFIX, len(name), name)
    if media_id is not None:
        key += b"\0" + media_id.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") % BUCKETS


def decide(state: TrafficState, tenant: str, media_id: str, content_type: str) -> Path:
    """Return the path of a request. A denial is stronger than an allowance, that is stronger than the
    percentage."""
    if tenant in state.deny_tenants or content_type in state.deny_content_types:
        return Path.SYNC
    if tenant in state.allow_tenants or content_type in state.allow_content_types:
        return Path.ASYNC
    return Path.ASYNC if _below(state.percent, state.sticky_by, tenant, media_id) else Path.SYNC


def _below(percent: float, sticky_by: str, tenant: str, media_id: str) -> bool:
    if percent <= 0:
        return False
    if percent >= 100:
        return True
    # Rounded, as 0.07 x 100 is a little more than 7 as a float.
    limit = round(percent * (BUCKETS / 100))
    return bucket(tenant, media_id if sticky_by == "document" else None) < limit


@dataclass(frozen=True, slots=True)
class Reach:
    """Which requests may ever have gone to the fleet: those that any state so far sent there.

    A document outside of it is on the old path alone, so it need not be removed from the fleet.
    """

    percent_by_tenant: float = 0.0
    percent_by_document: float = 0.0
    tenants: frozenset[str] = frozenset()
    any_content_type: bool = False

    def with_state(self, state: TrafficState) -> Reach:
        """Return the reach after this state held too. Denials do not count, as they only make it smaller."""
        by_tenant = state.sticky_by == "tenant"
        return Reach(
            max(self.percent_by_tenant, state.percent if by_tenant else 0.0),
            max(self.percent_by_document, 0.0 if by_tenant else state.percent),
            self.tenants | state.allow_tenants,
            # The type of an older version of a document is not known. So one allowed type reaches them all.
            self.any_content_type or bool(state.allow_content_types),
        )

    def includes(self, tenant: str, media_id: str) -> bool:
        """Whether a version of the document may have gone to the fleet."""
        return (
            self.any_content_type
            or tenant in self.tenants
            or _below(self.percent_by_tenant, "tenant", tenant, media_id)
            or _below(self.percent_by_document, "document", tenant, media_id)
        )


EVERYTHING = Reach(any_content_type=True)
"""Any document may have gone to the fleet."""
