"""Compares the vector store with SQL and repairs it; backs up SQL and restores it.

May import: views, tracking, search_scope, nearest_passages, query_embedding, administration and below.
"""
