"""Takes over collections that another system filled, and gives everything back.

A source is read and never changed. What is right in it is taken as it is, the rest is embedded again.

May import: views, tracking, search_scope, nearest_passages, administration and below.
"""
