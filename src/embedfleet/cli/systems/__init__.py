"""The system that a command acts on. A command knows the port only, and not where its system is.

May import: api, tldw, running_worker and below.
"""
