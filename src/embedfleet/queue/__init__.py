"""Queues between the pools: the broker port, its implementation in one process and the one on Redis, and
the pure arithmetic of fair queuing and retries.

`redis_broker` is the adapter; beside it stand what it is made of: `redis_options` (where), `redis_connection`
(how), `redis_scripts` with `lua/` (what runs there), `keys` (on which data), `redis_errors` (what can go
wrong). Only it and they import redis, so a process without a fleet does not load it.

May import: queue_schemas, quota, scaling, retry and below.
"""
