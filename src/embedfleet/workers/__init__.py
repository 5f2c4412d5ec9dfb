"""The workers of the pools: they claim tasks, do the work, queue the next stage, commit SQL, and ack last.

A `Worker` (module `worker`) runs a few loops of one stage. `base_worker` has the part that all loops share.
Each stage has one module for its own work, such as `chunking_worker`.

May import: tenant_access, store_moving, model_switching and below.
"""
