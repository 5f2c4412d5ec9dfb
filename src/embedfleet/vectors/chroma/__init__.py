"""Chroma as a vector store: embedded (in a child process that owns a directory) or on a server.

`kind` opens one of them, as the settings say. `store` implements the port for both. `layout` names the
collections, and `operations` makes the blocking calls. `clients` and `errors` wrap the library. `embedded` is
the embedded store; it talks to the child process (`child`) through `process` and `frames`. `server` is the
store of a fleet.

May import: queue_schemas, quota, evaluation, api_keys, scaling, retry, system_parts and
below.
"""
