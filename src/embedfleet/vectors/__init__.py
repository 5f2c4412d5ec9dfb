"""Vector stores: they make vectors searchable, and can be rebuilt from SQL at any time.

`port` is the contract of a store, `registry` knows the kinds of stores, and each kind is a package
(`chroma`). `null` and `metered` are stores around or instead of one. `checksums` tells whether a stored
vector is intact.

A view is told what it needs: it does not read `sql` or `records`.

May import: queue_schemas, quota, scaling, retry and below.
"""
