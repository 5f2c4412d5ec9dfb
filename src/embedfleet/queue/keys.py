"""The names of the keys in Redis. Each stage has a fixed number of keys, all in one slot.

Every key of a stage's first shard carries the same hash tag, `{<prefix>:<stage>}:<name>`, so that a cluster
keeps them on one node, where a script may use them together. The keys of a further shard carry
`{<prefix>:<stage>:<shard>}`, and may be on another node.

There is no key per tenant, job or task. So a drained queue leaves keys of constant size, except for
`shares`. Only `answers` is a key per process that waits for answers, and it is gone when they are taken or
have expired.

A server that an older release used may still have a key `in_flight` for each stage. It does no harm: no
script reads it, and it has at most one number for each tenant. An operator may delete it.

==================== ====  ==================================================================
name                 type  holds
==================== ====  ==================================================================
meta                 HASH  counters, virtual times, last fence, epoch, layout of the shards; in the chunking
                           stage also the mark, which says to which system the queues belong. In the first
                           shard its name is also the channel of the notification that the stage has
                           claimable work again
tasks                HASH  id -> record (msgpack, see `redis_records`) of each unfinished or dead task
payloads             HASH  id -> payload
ready                ZSET  score 0; tenant, lane, inverted priority, sequence, id: in order of service
leases               ZSET  id by expiry, seconds
delayed              ZSET  id by due time, seconds
dead                 ZSET  id by order of death
jobs                 ZSET  score 0; job, id: the tasks that `cancel_job` may touch, all but the dead
ready_costs          HASH  tenant -> tokens of its ready tasks, both lanes together
shares               HASH  tenant -> stride (the price of a token), where it is not the default
interactive, bulk    ZSET  tenants with ready tasks in this lane, by virtual start
interactive_debts,   ZSET  tenants without ready tasks that have a start above virtual time, by virtual
bulk_debts                 start
answers:<mailbox>    LIST  answers that the process of this mailbox has not taken; it expires. Its name is
                           also the channel of the notification that there is one
==================== ====  ==================================================================

The members of `ready` and `jobs` are texts in UTF-8 with a byte 0xFF between them. UTF-8 has no such byte,
so no text can contain a separator, and the order of bytes is the order of code points.
"""

from __future__ import annotations

from embedfleet.queue_schemas import Stage

KEY_TYPES = {
    "meta": "hash",
    "tasks": "hash",
    "payloads": "hash",
    "ready": "zset",
    "leases": "zset",
    "delayed": "zset",
    "dead": "zset",
    "jobs": "zset",
    "ready_costs": "hash",
    "shares": "hash",
    "interactive": "zset",
    "bulk": "zset",
    "interactive_debts": "zset",
    "bulk_debts": "zset",
    "answers": "list",
}


def stage_key(prefix: str, stage: Stage, name: str, shard: int = 0) -> str:
    """Return the key of one of the names above, in a shard of the stage."""
    tag = f"{prefix}:{stage.value}:{shard}" if shard else f"{prefix}:{stage.value}"
    return f"{{{tag}}}:{name}"


def answers_key(prefix: str, stage: Stage, mailbox: str) -> str:
    """Return the key of a mailbox."""
    return f"{stage_key(prefix, stage, 'answers')}:{mailbox}"
