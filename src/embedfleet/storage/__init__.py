"""What is kept: SQL (the truth) and the vector store (a view of it).

May import: queue_schemas, errors, settings, clock.
"""
