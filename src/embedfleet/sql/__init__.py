"""The SQL databases: engines, tables and their migrations, and the lock that gives a document one writer.

May import: queue_schemas, quota, scaling, retry and below.
"""
