"""Operations on submitted jobs: look at them, wait for them, cancel or retry them, handle dead letters.

`TenantJobs` is bound to one tenant, and can neither see nor change the rows of another tenant. `OperatorJobs`
works on the rows of all tenants. Both extend `ScopedJobs`, which has each operation once, for a given scope.

May import: lifecycle, tokenising, joining, explanation, interactive and below.
"""
