"""The truth: what SQL says of jobs, documents, chunks and their ends. Plain functions over a connection.

May import: sql and below. Never `vectors`: the truth does not depend on a view of it.
"""
