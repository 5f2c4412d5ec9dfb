"""Text to chunks: atoms by offsets, tokenised once, packed to an exact token limit.

May import: queue_schemas, errors.
"""
