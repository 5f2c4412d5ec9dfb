"""Reads and writes the SQL tables. Each kind of record has one module of plain functions over a connection.

SQL is the truth and the vector store is a view of it, so no module here imports `vectors`.

May import: sql, inference, chunking, parsing, queue and below.
"""
