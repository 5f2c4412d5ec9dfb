"""How vectors lie in Chroma: one collection for each tenant and space, and how it is named."""

from __future__ import annotations

import hashlib
import re

_PLAIN_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def collection_name(tenant: str, space: str) -> str:
    """A valid Chroma name that no other pair of tenant and space has. It stays the same in every release.

    The SHA-256 alone tells pairs apart, so nothing in a tenant's id can make it another tenant's name. The
    part in front is for people only: the tenant's id if it is plain ASCII, else the word `tenant`.
    """
    raw = tenant.encode("utf-8", "surrogatepass")
    # The length in front says where the tenant ends: ("ab", "c") and ("a", "bc") differ.
    identity = b"%d:%b%b" % (len(raw), raw, space.encode("utf-8", "surrogatepass"))
    readable = tenant if _PLAIN_TENANT.fullmatch(tenant) else "tenant"
    return f"{readable}-{hashlib.sha256(identity).hexdigest()}"
