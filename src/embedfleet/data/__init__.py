"""Files shipped with the package.

May import: nothing.
"""
