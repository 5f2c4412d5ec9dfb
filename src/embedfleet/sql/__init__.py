"""The SQL database: its two engines, its tables and migrations, and the lock of a document.

May import: queue_schemas, quota, scaling, retry, system_parts and below.
"""
