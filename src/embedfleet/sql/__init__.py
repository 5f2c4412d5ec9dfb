"""The SQL database: its two engines, its tables and migrations, and the lock of a document.

May import: queue_schemas, quota, evaluation, api_keys, scaling, retry, system_parts and
below.
"""
