"""Routing by content: which model a document gets, and how hits of several models become one list.

All of it is pure: rules, the language of a text, and the fusion of scores.

May import: settings and below.
"""
