"""Cuts texts into chunks: finds atoms (sentences, lines, words), tokenises them, packs them to exact limits.

May import: queue_schemas, quota, evaluation, api_keys, scaling, retry, system_parts and
below.
"""
