"""What both clients can do."""

from __future__ import annotations

from embedfleet.client.calls import defaults, documents, identity, jobs
from embedfleet.client.transports import Operation


class Operations:
    """The operations. `Client` returns their results, `AsyncClient` something to await for them.

    An error is that of our tree which a caller in the server's process would have met. Any operation may
    raise ServerUnavailable and AccessDenied.
    """

    me = Operation(identity.me)
    defaults = Operation(defaults.defaults)

    create_job = Operation(jobs.create_job)
    status = Operation(jobs.status)
    statuses = Operation(jobs.statuses)
    find_job_id = Operation(jobs.find_job_id)
    find_jobs = Operation(jobs.find_jobs)
    list_jobs = Operation(jobs.list_jobs)
    wait = Operation(jobs.wait)
    wait_many = Operation(jobs.wait_many)
    totals = Operation(jobs.totals)
    cancel = Operation(jobs.cancel)
    retry = Operation(jobs.retry)
    retry_many = Operation(jobs.retry_many)

    models_of = Operation(documents.models_of)
    replace_metadata = Operation(documents.replace_metadata)
