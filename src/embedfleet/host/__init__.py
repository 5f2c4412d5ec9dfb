"""An orchestrator on its host: runs the pools, sets their sizes, watches the broker, and reports the host.

May import: leader, launchers and below.
"""
