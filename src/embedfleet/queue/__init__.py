"""Queues between the pools: the port, its two implementations, and the arithmetic of fair queuing.

`broker` is the port. `memory_broker` implements it in one process, `redis_broker` on Redis.

The parts of the Redis adapter are modules of their own. `redis_endpoint` reads the address, and
`redis_connection` connects. `redis_scripts` runs the scripts in `lua/`, and `keys` names the keys they use.
`redis_errors` maps the errors. Only these modules import redis, so an embedded system does not load it.

May import: queue_schemas, quota, evaluation, api_keys, scaling, retry, system_parts and
below.
"""
