"""What both clients can do."""

from __future__ import annotations

from embedfleet.client.calls import administration, dead_letters, defaults, documents, identity, jobs, pools
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

    list_dead_letters = Operation(dead_letters.list_dead_letters)
    get_dead_letter = Operation(dead_letters.get_dead_letter)
    requeue_dead_letters = Operation(dead_letters.requeue_dead_letters)
    purge_dead_letters = Operation(dead_letters.purge_dead_letters)

    orchestrators = Operation(pools.orchestrators)
    scale = Operation(pools.scale)

    list_keys = Operation(administration.list_keys)
    create_key = Operation(administration.create_key)
    create_operator_key = Operation(administration.create_operator_key)
    rotate_key = Operation(administration.rotate_key)
    revoke_key = Operation(administration.revoke_key)
    usage = Operation(administration.usage)
    audit_log = Operation(administration.audit_log)
    tenant = Operation(administration.tenant)
    list_tenants = Operation(administration.list_tenants)
    set_tenant = Operation(administration.set_tenant)

    models_of = Operation(documents.models_of)
    replace_metadata = Operation(documents.replace_metadata)
