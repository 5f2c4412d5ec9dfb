"""What only the elected orchestrator does: one duty a file, and the election itself.

May import: workers and below.
"""
