"""Moves the vectors to another store while the system works (ADR 31).

May import: searching, repair, adoption and below.
"""
