"""What both clients can do."""

from __future__ import annotations

from embedfleet.client.calls import (
    administration,
    catalogue,
    dead_letters,
    defaults,
    documents,
    experiments,
    identity,
    jobs,
    pools,
    results,
    search,
    shadows,
    streams,
    switches,
    traffic,
    uploads,
)
from embedfleet.client.transports import Operation, Series


class Operations:
    """The operations. `Client` returns their results, `AsyncClient` something to await for them.

    An error is that of our tree which a caller in the server's process would have met. Any operation may
    raise ServerUnavailable and AccessDenied.
    """

    me = Operation(identity.me)
    defaults = Operation(defaults.defaults)

    list_collections = Operation(catalogue.list_collections)
    catalogue = Operation(catalogue.catalogue)

    create_job = Operation(jobs.create_job)
    create_job_from_file = Operation(uploads.create_job_from_file)
    create_each = Operation(uploads.create_each)
    upload = Operation(uploads.upload)
    estimate = Operation(uploads.estimate)
    estimate_upload = Operation(uploads.estimate_upload)
    sum_of_estimates = Operation(uploads.sum_of_estimates)

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

    traffic_status = Operation(traffic.traffic_status)
    set_traffic = Operation(traffic.set_traffic)
    plan_traffic = Operation(traffic.plan_traffic)
    pause_traffic = Operation(traffic.pause_traffic)
    resume_traffic = Operation(traffic.resume_traffic)
    rollback_traffic = Operation(traffic.rollback_traffic)
    retire_old_path = Operation(traffic.retire_old_path)
    restore_old_path = Operation(traffic.restore_old_path)
    traffic_history = Operation(traffic.traffic_history)
    follow_traffic = Series(traffic.follow_traffic)

    begin_shadow = Operation(shadows.begin_shadow)
    end_shadow = Operation(shadows.end_shadow)
    get_shadow = Operation(shadows.get_shadow)
    list_shadows = Operation(shadows.list_shadows)

    estimate_switches = Operation(switches.estimate_switches)
    begin_switches = Operation(switches.begin_switches)
    get_switch = Operation(switches.get_switch)
    list_switches = Operation(switches.list_switches)
    pause_switches = Operation(switches.pause_switches)
    resume_switches = Operation(switches.resume_switches)
    throttle_switches = Operation(switches.throttle_switches)
    serve_switches = Operation(switches.serve_switches)
    roll_back_switches = Operation(switches.roll_back_switches)
    force_switches = Operation(switches.force_switches)
    recheck_switches = Operation(switches.recheck_switches)
    retire_switches = Operation(switches.retire_switches)
    plan_experiment = Operation(experiments.plan_experiment)
    begin_experiment = Operation(experiments.begin_experiment)
    list_experiments = Operation(experiments.list_experiments)
    get_experiment = Operation(experiments.get_experiment)
    end_experiment = Operation(experiments.end_experiment)
    promote_experiment = Operation(experiments.promote_experiment)

    list_keys = Operation(administration.list_keys)
    create_key = Operation(administration.create_key)
    create_operator_key = Operation(administration.create_operator_key)
    rotate_key = Operation(administration.rotate_key)
    revoke_key = Operation(administration.revoke_key)
    usage = Operation(administration.usage)
    audit_log = Operation(administration.audit_log)
    tenant = Operation(administration.tenant)
    routing = Operation(administration.routing)
    set_rules = Operation(administration.set_rules)
    plan_routing = Operation(administration.plan_routing)
    move_routed = Operation(administration.move_routed)
    list_tenants = Operation(administration.list_tenants)
    set_tenant = Operation(administration.set_tenant)

    delete_tenant = Operation(administration.delete_tenant)

    feedback = Operation(search.feedback)
    search = Operation(search.search)

    events = Operation(streams.events)
    follow_events = Series(streams.follow_events)
    follow_job = Series(results.follow_job)
    results = Series(results.results)
    explain_job = Operation(streams.explain_job)
    explain_document = Operation(streams.explain_document)

    list_documents = Operation(documents.list_documents)
    all_documents = Series(documents.all_documents)
    get_document = Operation(documents.get_document)
    read_text = Operation(documents.read_text)
    list_chunks = Operation(documents.list_chunks)
    set_metadata = Operation(documents.set_metadata)
    delete_document = Operation(documents.delete_document)
    delete_documents = Operation(documents.delete_documents)
    receipt = Operation(documents.receipt)
    list_receipts = Operation(documents.list_receipts)
    searched_receipt = Operation(documents.searched_receipt)
    models_of = Operation(documents.models_of)
    replace_metadata = Operation(documents.replace_metadata)
