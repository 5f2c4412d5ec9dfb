"""The leader's duties, each with its pace. A new duty is a module beside this one and a line here."""

from __future__ import annotations

from collections.abc import Sequence

from embedfleet.experiments.runner import ExperimentRunner
from embedfleet.leader.answer_forgetting import FORGET_SECONDS, AnswerForgetting
from embedfleet.leader.beyond_reach import Outside
from embedfleet.leader.broker_upkeep import UPKEEP_SECONDS, BrokerUpkeep
from embedfleet.leader.cache_trimming import TRIM_SECONDS, CacheTrimming
from embedfleet.leader.election import Election
from embedfleet.leader.erasure import ROUND_SECONDS, Erasure
from embedfleet.leader.event_delivery import EventDelivery
from embedfleet.leader.event_publisher import EventPublisher
from embedfleet.leader.experiments import STEP_SECONDS, Experiments, SearchForgetting
from embedfleet.leader.experiments import TRIM_SECONDS as SEARCH_TRIM_SECONDS
from embedfleet.leader.foundations import Foundations
from embedfleet.leader.guest_searches import GuestSearches
from embedfleet.leader.leftover_search import LeftoverSearch
from embedfleet.leader.mark_keeping import LOOK_SECONDS, MarkKeeping
from embedfleet.leader.model_switching import SWITCH_SECONDS, ModelSwitching
from embedfleet.leader.reconciler import Reconciler
from embedfleet.leader.service import AfterWrites, Every, LeaderDuty, LeaderService, Pace
from embedfleet.leader.shadow_ending import ENDING_SECONDS, ShadowEnding
from embedfleet.leader.store_moving import MOVE_SECONDS, StoreMoving
from embedfleet.leader.store_upkeep import TEND_SECONDS, StoreUpkeep
from embedfleet.leader.switch_report import SWITCH_REPORT_SECONDS, SwitchReport
from embedfleet.leader.traffic_folding import FOLD_SECONDS, TrafficFolding
from embedfleet.leader.traffic_guard import TrafficGuard
from embedfleet.leader.unfinished_work import COUNT_SECONDS, UnfinishedWork
from embedfleet.leader.usage_report import REPORT_SECONDS, UsageReport
from embedfleet.leader.view_changes import TELL_SECONDS, ViewChanges
from embedfleet.leader.view_keeping import KEEP_SECONDS, ViewKeeping
from embedfleet.leader.waiting_work import WaitingWork
from embedfleet.leader.webhook import Webhook
from embedfleet.leader.work_offering import LossSearch, WorkOffering
from embedfleet.leader.work_summary import SUMMARY_SECONDS, WorkSummary
from embedfleet.model_switching.held_twins import HeldTwins
from embedfleet.model_switching.switcher import ModelSwitcher
from embedfleet.searching.search import SearchService
from embedfleet.store_moving.mover import StoreMover
from embedfleet.traffic.guarding import LOOK_SECONDS as GUARD_LOOK_SECONDS
from embedfleet.vectors.port import VectorStore
from embedfleet.views.keeping import ViewKeeper, recipes_of
from embedfleet.views.leftovers import ViewLeftovers
from embedfleet.views.view import View

_LOSS_SEARCH_SECONDS = 1.0
"""The pause between two looks whether the broker has lost its memory or single tasks."""


def leader_services(
    base: Foundations,
    election: Election,
    search: SearchService,
    store: VectorStore,
    views: Sequence[View] = (),
    mover: StoreMover | None = None,
    switcher: ModelSwitcher | None = None,
    experiments: ExperimentRunner | None = None,
) -> list[LeaderService]:
    """Return every duty of the leader as a service, ready to run.

    Without a `mover`, no vectors move. Without a `switcher`, no tenant is switched to another model. Without
    `experiments`, no models are compared.
    """
    waiting = WaitingWork(base.database)
    reconciler = _reconciler(base, None if switcher is None else switcher.held_twins)
    publisher = EventPublisher(
        database=base.database,
        waiting=waiting,
        metrics=base.metrics,
        clock=base.clock,
        settings=base.settings.events,
    )
    duties: list[tuple[LeaderDuty, Pace]] = [
        (LossSearch(reconciler, base.broker), Every(_LOSS_SEARCH_SECONDS)),
        (WorkOffering(reconciler, waiting), AfterWrites(base.database)),
        (GuestSearches(search, waiting, base.clock), AfterWrites(base.database)),
        (publisher, AfterWrites(base.database)),
        (BrokerUpkeep(broker=base.broker, metrics=base.metrics), Every(UPKEEP_SECONDS)),
        (
            StoreUpkeep(store=store, other=None if mover is None else mover.other_store),
            Every(TEND_SECONDS),
        ),
        (
            UnfinishedWork(database=base.database, metrics=base.metrics, clock=base.clock),
            Every(COUNT_SECONDS),
        ),
        (WorkSummary(database=base.database, clock=base.clock), Every(SUMMARY_SECONDS)),
        (AnswerForgetting(base.database, base.clock), Every(FORGET_SECONDS)),
        (ShadowEnding(base.database, base.clock), Every(ENDING_SECONDS)),
        (TrafficGuard(base.database, base.clock), Every(GUARD_LOOK_SECONDS)),
        (_erasure(base, store, waiting, views), AfterWrites(base.database, apart_seconds=ROUND_SECONDS)),
        (TrafficFolding(base.database, base.clock), Every(FOLD_SECONDS)),
        (
            UsageReport(
                database=base.database,
                metrics=base.metrics,
                clock=base.clock,
                prices=base.settings.prices,
            ),
            Every(REPORT_SECONDS),
        ),
        *_view_duties(base, store, views),
        *_moving_duties(base, mover),
        *_switching_duties(base, switcher),
        *_experiment_duties(base, experiments),
        *_optional_duties(base, election),
    ]
    return [LeaderService(duty, election=election, pace=pace) for duty, pace in duties]


def _reconciler(base: Foundations, held_twins: HeldTwins | None) -> Reconciler:
    return Reconciler(
        database=base.database,
        broker=base.broker,
        clock=base.clock,
        tenants=base.settings.tenants,
        metrics=base.metrics,
        reconcile_seconds=base.settings.orchestrator.reconcile_seconds,
        backfill_weight=base.settings.model_switching.backfill_weight,
        held_twins=held_twins,
    )


def _erasure(base: Foundations, store: VectorStore, waiting: WaitingWork, views: Sequence[View]) -> Erasure:
    settings = base.settings
    search = LeftoverSearch(
        database=base.database, broker=base.broker, store=store, views=ViewLeftovers(views)
    )
    return Erasure(
        search,
        waiting,
        database=base.database,
        store=store,
        clock=base.clock,
        outside=Outside(
            backups_kept_days=settings.database.backups_kept_days,
            has_webhook=settings.events.webhook_url is not None,
        ),
    )


def _view_duties(
    base: Foundations, store: VectorStore, views: Sequence[View]
) -> Sequence[tuple[LeaderDuty, Pace]]:
    """Return the duties of the views. Without any, the one that forgets earlier ones is left."""
    database, clock = base.database, base.clock
    telling = ViewChanges(recipes_of(views), database=database, clock=clock)
    duties: list[tuple[LeaderDuty, Pace]] = [(telling, AfterWrites(database, apart_seconds=TELL_SECONDS))]
    for view in views:
        keeper = ViewKeeper(view, database=database, store=store, clock=clock)
        keeping = ViewKeeping(keeper, telling, database=database, metrics=base.metrics, clock=clock)
        duties.append((keeping, AfterWrites(database, apart_seconds=KEEP_SECONDS)))
    return duties


def _moving_duties(base: Foundations, mover: StoreMover | None) -> Sequence[tuple[LeaderDuty, Pace]]:
    if mover is None:
        return ()
    return [(StoreMoving(mover), AfterWrites(base.database, apart_seconds=MOVE_SECONDS))]


def _switching_duties(base: Foundations, switcher: ModelSwitcher | None) -> Sequence[tuple[LeaderDuty, Pace]]:
    if switcher is None:
        return ()
    report = SwitchReport(database=base.database, metrics=base.metrics)
    return [
        (ModelSwitching(switcher), AfterWrites(base.database, apart_seconds=SWITCH_SECONDS)),
        (report, Every(SWITCH_REPORT_SECONDS)),
    ]


def _experiment_duties(
    base: Foundations, runner: ExperimentRunner | None
) -> Sequence[tuple[LeaderDuty, Pace]]:
    if runner is None:
        return ()
    return [
        (Experiments(runner), AfterWrites(base.database, apart_seconds=STEP_SECONDS)),
        (SearchForgetting(runner), Every(SEARCH_TRIM_SECONDS)),
    ]


def _optional_duties(base: Foundations, election: Election) -> Sequence[tuple[LeaderDuty, Pace]]:
    """Return the duties that only some settings need."""
    duties: list[tuple[LeaderDuty, Pace]] = []
    if base.settings.redis.url is not None:
        marking = MarkKeeping(broker=base.broker, database=base.database)
        duties.append((marking, Every(LOOK_SECONDS)))
    cache, events = base.settings.embedding_cache, base.settings.events
    if cache.enabled:
        trimming = CacheTrimming(base.database, max_mb_per_tenant=cache.max_mb_per_tenant)
        duties.append((trimming, Every(TRIM_SECONDS)))
    if events.webhook_url is not None:
        secret = events.webhook_secret
        webhook = Webhook(
            events.webhook_url.get_secret_value(),
            secret=None if secret is None else secret.get_secret_value(),
            timeout_seconds=events.webhook_timeout_seconds,
        )
        delivery = EventDelivery(
            webhook,
            database=base.database,
            election=election,
            metrics=base.metrics,
            clock=base.clock,
            settings=events,
        )
        duties.append((delivery, AfterWrites(base.database)))
    return duties
