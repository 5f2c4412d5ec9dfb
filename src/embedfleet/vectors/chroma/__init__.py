"""Chroma as a vector store: embedded (in a child process that owns a directory) or on a server.

`kind` opens either of them as the settings say. `store` is the port over both, `layout` says how vectors lie
in Chroma, `operations` are its blocking calls, `clients` and `errors` wrap the library. The embedded store
is `embedded`, which talks through `process` and `frames` to the child in `child`; `server` is the store of a
fleet.

May import: queue_schemas, quota, scaling, retry and below.
"""
