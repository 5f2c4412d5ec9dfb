"""Reads the other markup languages of prose, Org, reStructuredText, AsciiDoc and TeX, as Markdown.

So their headings, code and tables are those of a Markdown page. `page` collects what a reader writes.

May import: queue_schemas, quota, evaluation, api_keys, scaling, retry, system_parts and
below.
"""
