"""Starts workers in the process of the orchestrator, each in its own process, or on a Ray cluster.

`launcher` is the port, and `inline`, `process` and `ray` are its adapters. `channel` has the messages to a
worker process, and `reported` what is known of one. `restarts` and `resources` are the arithmetic of restarts
and of devices.

May import: workers, job_manager, traffic, experiments and below.
"""
