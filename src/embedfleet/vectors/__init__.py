"""Vector stores: they make vectors searchable, and can be rebuilt from SQL at any time.

`port` is the contract of a store, `registry` knows the kinds of stores, and each kind is a package
(`chroma`). `null` and `metered` are stores around or instead of one. `checksums` tells whether a stored
vector is intact.

May import: queue_schemas and below (settings, metrics, framing, lifetime, errors). Never `sql` or `records`:
callers tell a store all it needs. `bootstrap` opens stores; workers, `search` and `repair` use the port.
"""
