"""The workers of the pools: claim, do the work, write downstream, commit SQL, ack last.

May import: job_manager, storage, inference, chunking, queue and everything below.
"""
