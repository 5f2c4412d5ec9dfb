"""The nearest live passages of a query: documents that it looks at, its vector, the hits of its models.

May import: views, tracking, administration and below.
"""
