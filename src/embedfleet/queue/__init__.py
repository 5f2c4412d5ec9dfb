"""Queues between the pools: the broker port, its in-process implementation, and the pure arithmetic of
fair queuing and retries.

May import: queue_schemas, errors, clock.
"""
