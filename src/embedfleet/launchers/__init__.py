"""Starts workers, either in the process of the orchestrator or each in its own process.

`launcher` is the port, and `inline` and `process` are its two adapters. `channel` has the messages to a
worker process. `restarts` and `resources` are the arithmetic of restarts and of devices.

May import: workers, job_manager, traffic and below.
"""
