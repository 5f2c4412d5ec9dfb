"""Switches tenants to another model while they are searched and submit documents (ADR 34).

May import: searching, repair, adoption and below.
"""
