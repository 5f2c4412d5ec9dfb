"""Experiments: two models answer a tenant's questions, and a verdict in words says which is better (ADR 37).

`administration` begins, shows, ends and promotes; `runner` carries experiments on, in the process of the
leader. `schemas` is what people see. What is compared, and when it is decided, is pure: `judging`.

May import: tenant_access, store_moving, model_switching and below.
"""
