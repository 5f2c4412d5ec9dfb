"""What an orchestrator does on its host: pools of workers, their sizes, the broker's upkeep, the election.

May import: launchers, reconciler and what is below them.
"""
