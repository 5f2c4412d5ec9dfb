"""The operations of the client, one file a group of routes. They are steps: they do no I/O.

May import: assembly and below.
"""
