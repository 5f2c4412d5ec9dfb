"""Names the collections in Chroma. Each tenant and space has a collection of its own."""

from __future__ import annotations

import hashlib
import re

MARK_COLLECTION = "embedfleet-system"
"""The collection whose metadata holds the mark of the system. No tenant's collection has this name, as those
end with a SHA-256."""

_PLAIN_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def collection_name(tenant: str, space: str) -> str:
    """Return a valid Chroma name that no other pair of tenant and space has. No release may change it.

    The SHA-256 alone distinguishes the pairs, so no tenant id can give the name of another tenant's
    collection. The part before it is for people only: the tenant's id if it is plain ASCII, or else the word
    `tenant`.
    """
    raw = tenant.encode("utf-8", "surrogatepass")
    # The length in front says where the tenant ends: ("ab", "c") and ("a", "bc") differ.
    identity = b"%d:%b%b" % (len(raw), raw, space.encode("utf-8", "surrogatepass"))
    readable = tenant if _PLAIN_TENANT.fullmatch(tenant) else "tenant"
    return f"{readable}-{hashlib.sha256(identity).hexdigest()}"
