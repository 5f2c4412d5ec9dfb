"""Switches tenants to another model while they are searched and submit documents (ADR 34).

May import: search, repair, adoption and below.
"""
