"""Files to text: format detection, extraction, and the child process it runs in.

May import: queue_schemas, errors, settings.
"""
