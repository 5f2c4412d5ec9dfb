"""pgvector as a source to adopt: tables of a PostgreSQL database, which are read and never changed.

May import: queue_schemas, quota, api_keys, scaling, retry, system_parts and below.
"""
