"""How a job begins, moves on and ends in SQL: each step of its life has one implementation, here.

May import: records and below.
"""
