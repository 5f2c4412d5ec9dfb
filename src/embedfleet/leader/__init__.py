"""The election of the leader, and the duties that only the elected orchestrator has. Each is one module.

May import: workers, job_manager, traffic, experiments and below.
"""
