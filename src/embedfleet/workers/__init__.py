"""The workers of the pools: they claim tasks, do the work, hand on, commit SQL, and ack last.

A `Worker` (`worker`) runs a few loops of one stage; `base_worker` has the part that all loops share, and one
module a stage has the work.

May import: ingest and below.
"""
