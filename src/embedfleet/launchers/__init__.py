"""Where workers run: in the process of the orchestrator, or each in a process of its own.

Here are the port (`launcher`) and its two adapters (`inline`, `process`), the messages to a worker process
(`channel`), and the arithmetic of restarts and of devices.

May import: workers and below.
"""
