"""Compares the vector store with SQL and repairs it; backs up SQL and restores it.

May import: views, tracking, administration and below.
"""
