"""Vector stores make vectors searchable. A store can be rebuilt from SQL at any time.

`port` is the contract of a store. `registry` knows the kinds of stores, and each kind is a package
(`chroma`, `lancedb`, `pgvector`, `qdrant`). `passing` is the base of the stores that stand before another
one: `metered` measures its calls, and `switching` follows a move. `null` keeps nothing. `checksums` tells
whether a stored vector is intact.

A store is a view of SQL, and its callers pass it all it needs. So it does not read `sql` or `records`.

May import: queue_schemas, quota, evaluation, api_keys, scaling, retry, system_parts and
below.
"""
