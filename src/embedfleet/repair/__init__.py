"""Compares the vector store with SQL and repairs it; backs up SQL and restores it.

May import: views, tracking, search_scope, search_fusion, nearest_passages, score_background, query_embedding,
impressions, administration and below.
"""
