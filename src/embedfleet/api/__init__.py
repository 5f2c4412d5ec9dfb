"""The HTTP API: one file a group of routes, and what they share (keys, errors, limits, streams).

May import: bootstrap, one_search, client and below.
"""
