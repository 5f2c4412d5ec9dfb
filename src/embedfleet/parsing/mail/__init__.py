"""Reads mail: single messages (.eml, .emlx, .mht) and mailboxes (.mbox).

Each gives the fields of its head that a reader sees, its best text, and its attachments through the readers
of their formats. What cannot be read is in the account, by name.

May import: queue_schemas, quota, evaluation, api_keys, scaling, retry, system_parts and
below.
"""
