"""The work of every orchestrator on its host: run the pools, set their sizes, watch the broker, report.

May import: leader, launchers, ingest, pruning and below.
"""
