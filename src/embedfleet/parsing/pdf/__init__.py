"""PDF: PDFium says where each word is on its page, and this package lays the words out as Markdown.

The words of a page (`words`) become segments and lines (`lines`), in columns (`columns`). What repeats at the
top and the bottom of pages is taken out (`furniture`); the rest becomes tables (`tables`), headings and
paragraphs (`paragraphs`). `document` reads a file page by page, with its forms and remarks (`annotations`).

May import: queue_schemas, quota, evaluation, api_keys, scaling, retry, system_parts and
below.
"""
