"""LanceDB: tables in a directory or in an object store.

`kind` opens the store, as the settings say, and `store` implements the port. `layout` says how rows lie. The
blocking calls are in `table`, on top of `tending` (upkeep) and `versions`. `upkeep` decides what is due,
`marks` keeps the mark of the system, `spaces` the names of the tables, and `errors` wraps the library. All
use `lance`, the library below LanceDB: it compacts, and removes old versions, as precisely as we need.
`source` reads the tables of others, as a source to adopt.

May import: queue_schemas, quota, evaluation, api_keys, scaling, retry, system_parts and
below.
"""
