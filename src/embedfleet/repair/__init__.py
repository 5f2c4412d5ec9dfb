"""What holds the vector store against SQL and mends it; copies of SQL, and what to make of one.

May import: storage, inference, chunking and below.
"""
