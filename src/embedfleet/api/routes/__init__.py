"""The routes of the API, one file a group of resources.

May import: bootstrap, one_search, client and below.
"""
