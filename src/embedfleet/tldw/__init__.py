"""What code written for tldw_server calls, on top of embedfleet. `app/core/Embeddings` re-exports it.

May import: bootstrap, one_search, client and below.
"""
