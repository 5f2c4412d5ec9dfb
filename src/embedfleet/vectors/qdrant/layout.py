"""How rows lie in Qdrant. No release may change what these functions return.

All tenants of a space share one Qdrant collection, since a server takes a thousand collections, not one for
each tenant. The payload of a point names its tenant, under a key that has a tenant index, and every call
filters by it. A point's id is derived from the tenant and the id of the row, so one row id may be in any
number of tenants. One more collection, the register, says which collections of the port there are, and holds
the mark of the system.
"""

from __future__ import annotations

import hashlib
import re
from uuid import UUID

from embedfleet.vectors.port import CollectionKey

REGISTER = "embedfleet"

# Keys of a payload.
TENANT = "tenant"
ROW_ID = "id"
METADATA = "metadata"
TEXT = "text"
SPACE = "space"
DIM = "dim"
MARK = "mark"

_NOT_IN_A_PATH = re.compile(r'[%"\\]')


def rows_collection(collection: CollectionKey) -> str:
    """Return the name of the Qdrant collection that holds the rows of this space, of all tenants.

    The SHA-256 makes a valid name of any space. The dimension is in the name because a Qdrant collection has
    one.
    """
    space = hashlib.sha256(_raw(collection.space)).hexdigest()
    return f"{REGISTER}-{collection.dim}-{space}"


def has_rows(name: str) -> bool:
    """Whether the Qdrant collection of this name holds the rows of a space."""
    return name.startswith(f"{REGISTER}-")


def row_point(tenant: str, row_id: str) -> str:
    """Return the id of the point of a row."""
    return _point("row", tenant, row_id)


def register_point(collection: CollectionKey) -> str:
    """Return the id of the point, in the register, of a collection of the port."""
    return _point("collection", collection.tenant, collection.space)


def mark_point() -> str:
    """Return the id of the point, in the register, that holds the mark."""
    return _point("mark")


def metadata_field(key: str) -> str:
    """Return the name under which metadata of this key lies in the payload.

    It is the key itself, but for three characters that cannot stand in Qdrant's paths.
    """
    return _NOT_IN_A_PATH.sub(lambda found: f"%{ord(found[0]):02X}", key)


def metadata_path(key: str) -> str:
    """Return Qdrant's path to the metadata of this key."""
    return f'{METADATA}."{metadata_field(key)}"'


def _point(*identity: str) -> str:
    """Return a UUID: half of the SHA-256 of the texts, which no other texts have but by chance."""
    # The length before each text says where it ends: ("ab", "c") and ("a", "bc") differ.
    framed = b"".join(b"%d:%b" % (len(raw), raw) for raw in map(_raw, identity))
    return str(UUID(bytes=hashlib.sha256(framed).digest()[:16]))


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
