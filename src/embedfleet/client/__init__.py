"""The client of the HTTP API.

May import: bootstrap, one_search and below.
"""
