"""Embeds texts while a caller waits: in this process, or by the embedding workers of a fleet.

May import: records, eta, positions, progress and below.
"""
