"""Office documents: Word, Excel and PowerPoint files, and those of OpenDocument.

`container` finds out what a file is and calls its reader. `xml_part` and `package` read the XML parts of the
archive, `blocks` writes paragraphs, lists, tables and notes as Markdown.

May import: queue_schemas, quota, evaluation, api_keys, scaling, retry, system_parts and
below.
"""
