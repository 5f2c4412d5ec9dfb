"""The life of a job in SQL: how it begins, moves on and ends. Each step is implemented once, in this package.

May import: records, eta, positions, progress and below.
"""
