"""Moves an application from its synchronous path to the fleet, step by step, and back at any moment.

A `TrafficRouter` sends each request down one of two paths. A `TrafficState` decides which one. SQL keeps all
states, with who changed them and when.

May import: tenant_access and below.
"""
