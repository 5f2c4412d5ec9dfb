"""Reads and writes the SQL tables: one file for each kind of record, plain functions over a connection.

SQL is the truth, and the vector store is a view of it, so nothing here imports `vectors`.

May import: sql, inference, chunking, parsing, queue and below.
"""
