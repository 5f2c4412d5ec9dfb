"""Jobs that were submitted: look at them, wait for them, cancel, retry, and handle their dead letters.

`TenantJobs` is bound to one tenant and can neither see nor change rows of another; `OperatorJobs` has the
rows of all tenants. Both are `ScopedJobs`, where each operation is written once, over a required scope.

May import: lifecycle, tokenising and below.
"""
