"""Views for others: collections in a layout that another system reads, kept in step with the live documents.

May import: lifecycle, tokenising, joining, explanation, interactive and below.
"""
