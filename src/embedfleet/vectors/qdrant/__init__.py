"""Qdrant as a vector store: a server, through its client.

`kind` opens it, as the settings say. `layout` says how rows lie in Qdrant, `store` implements the port, and
`errors` maps what the client raises.

May import: queue_schemas, quota, evaluation, api_keys, scaling, retry, system_parts and
below.
"""
