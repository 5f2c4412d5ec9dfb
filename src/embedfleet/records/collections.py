"""Which collection a tenant's vectors of one space are in."""

from __future__ import annotations

import hashlib
import re

_PLAIN_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def collection_name(tenant_id: str, space: str) -> str:
    """A valid Chroma name that no other pair of tenant and space has.

    The SHA-256 alone tells pairs apart, so nothing in a tenant's id can make it another's; the
    readable part in front is for people only and is `tenant` unless the id is plain ASCII.
    """
    tenant = tenant_id.encode("utf-8", "surrogatepass")
    # The length in front says where the tenant ends: ("ab", "c") and ("a", "bc") differ.
    identity = b"%d:%b%b" % (len(tenant), tenant, space.encode("utf-8", "surrogatepass"))
    readable = tenant_id if _PLAIN_TENANT.fullmatch(tenant_id) else "tenant"
    return f"{readable}-{hashlib.sha256(identity).hexdigest()}"
