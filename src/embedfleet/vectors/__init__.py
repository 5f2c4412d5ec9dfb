"""The view: vector stores, which can be rebuilt from SQL at any time. `port` is the contract.

May import: queue_schemas and below. Never `sql` or `records`: a view is told what it needs.
"""
