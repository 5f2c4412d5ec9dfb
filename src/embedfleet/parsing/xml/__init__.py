"""Reads XML by its text: tokens (`tokens`), what the names of elements mean (`vocabulary`), and the layout.

May import: queue_schemas, quota, evaluation, api_keys, scaling, retry, system_parts and
below.
"""
