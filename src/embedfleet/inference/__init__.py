"""Tokens to vectors: the backend port, the backends, batching, and the thread a model lives on.

May import: queue_schemas, errors, settings, metrics.
"""
