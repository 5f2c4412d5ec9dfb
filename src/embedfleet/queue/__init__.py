"""Queues between the pools: the port `broker`, its implementation in one process (`memory_broker`) and the
one on Redis (`redis_broker`), and the pure arithmetic of fair queuing.

The parts of the Redis adapter are modules beside it: `redis_endpoint` (where), `redis_connection`
(how), `redis_scripts` with `lua/` (what runs there), `keys` (on which data), `redis_errors` (what can go
wrong). Only it and they import redis, so a process without a fleet does not load it.

May import: queue_schemas, quota, scaling, retry and below.
"""
