"""Where workers run: in the orchestrator's process, or each in one of its own.

May import: workers and what is below them.
"""
