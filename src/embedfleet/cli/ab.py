"""`embedfleet ab start|list|show|end|promote`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from embedfleet.cli.ab_options import (
    Days,
    ExperimentId,
    Keep,
    KnownItems,
    Metric,
    ModelA,
    ModelB,
    Online,
    Owner,
    Power,
    PromotedArm,
    Qrels,
    QueryLog,
    Questions,
    SmallestDifference,
    Yes,
)
from embedfleet.cli.ab_report import HEADINGS, RIGHT, cells, own_arm, say_experiment, say_plan, say_results
from embedfleet.cli.disk_space import confirm_with_space
from embedfleet.cli.options import AsJson, Tenant
from embedfleet.cli.output import confirm, print_json, say, say_table, warn
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.systems.opening import with_system
from embedfleet.wording import number_of

if TYPE_CHECKING:
    from embedfleet.cli.systems.port import Experiments, System
    from embedfleet.experiments.schemas import ExperimentInfo, LabelledQuestion
    from embedfleet.records.cursors import Page
    from embedfleet.sql.states import QuestionSource

T = TypeVar("T")

app = typer.Typer(
    help="Comparisons of two models, or of a model and the route, with a verdict in words.",
    no_args_is_help=True,
)


@app.command("start")
@somewhere
def start(
    place: Place,
    model_a: ModelA,
    model_b: ModelB,
    tenant: Tenant = None,
    questions: Questions = None,
    qrels: Qrels = None,
    known_items: KnownItems = False,
    query_log: QueryLog = False,
    online: Online = False,
    metric: Metric = "ndcg@10",
    smallest_difference: SmallestDifference = None,
    power: Power = 0.8,
    days: Days = 7.0,
    owner: Owner = None,
    keep: Keep = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Compare two models: embed the documents with the second one, ask both, and stop when it is decided.

    The word `route` stands for what the tenant has by its rules: its documents in several spaces, searched
    together. So `ab start route MODEL` asks whether that is better than one model for everything.

    Before it begins, it says how many questions are needed and what the second space costs. No search sees
    that space, but with --online. What is submitted in that time is in both. Orchestrators do the work.
    """
    from embedfleet.sql.states import QuestionSource

    chosen = {
        QuestionSource.LABELLED: questions is not None,
        QuestionSource.KNOWN_ITEMS: known_items,
        QuestionSource.QUERY_LOG: query_log,
        QuestionSource.CLICKS: online,
    }
    wanted = {
        "model_a": model_a,
        "model_b": model_b,
        "owner": owner or _user(),
        "source": _source(chosen),
        "questions": _read(questions, qrels),
        "metric": metric,
        "smallest_difference": smallest_difference,
        "power": power,
        "days": days,
        "keep": keep,
    }
    _show(_begun(place, tenant, wanted, yes=yes, quiet=as_json), as_json=as_json)


@app.command("list")
@somewhere
def list_experiments(
    place: Place,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=100_000, help="How many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Comparisons, newest first: whose they are, how far they are, and their verdicts."""

    async def look(door: Experiments) -> Page[ExperimentInfo]:
        return await door.list_experiments(limit=limit)

    found = _with_experiments(place, look)
    if as_json:
        print_json({"experiments": [one.json_document() for one in found]})
    elif not found:
        say("no comparison was begun yet")
    else:
        say_table(HEADINGS, map(cells, found), right=RIGHT)


@app.command("show")
@somewhere
def show(place: Place, experiment_id: ExperimentId, as_json: AsJson = False) -> None:
    """One comparison: plan, checks, verdict, metrics, slices, cost, and the worst and best questions."""
    found = _with_experiments(place, lambda door: door.show(experiment_id))
    if as_json:
        print_json({"results": found.json_document()})
    else:
        say_results(found)


@app.command("end")
@somewhere
def end(place: Place, experiment_id: ExperimentId, as_json: AsJson = False) -> None:
    """End a comparison with what is known by now, or free the space that an ended one still keeps."""
    _show(_with_experiments(place, lambda door: door.end(experiment_id)), as_json=as_json)


@app.command("promote")
@somewhere
def promote(
    place: Place,
    experiment_id: ExperimentId,
    arm: PromotedArm = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give the tenant B, or the arm that is named: a model is switched to when it has passed the gate.

    Nothing is embedded again. From the route, all documents go to the model, and the tenant's rules end with
    the switch. If the tenant has the arm already, nothing changes, and the other space is freed.
    """
    if not yes:
        known = _with_experiments(place, lambda door: door.show(experiment_id)).experiment
        confirm(_promotion(known, arm), yes=False)
    _show(_with_experiments(place, lambda door: door.promote(experiment_id, arm)), as_json=as_json)


def _promotion(one: ExperimentInfo, arm: str | None) -> str:
    """Return what is asked before an arm is promoted; B if none is named."""
    chosen = arm or one.model_b
    if chosen == own_arm(one):
        return f"Leave tenant {one.tenant} as it is, and free the other space?"
    return f"Switch tenant {one.tenant} to {chosen}, if it passes the gate?"


def _begun(
    place: Place, tenant: str | None, wanted: Mapping[str, Any], *, yes: bool, quiet: bool
) -> ExperimentInfo:
    """Say what a comparison would do, ask, and begin it. With `quiet`, stdout is left to the result."""
    from embedfleet.experiments.schemas import ExperimentRequest

    async def begin(system: System) -> ExperimentInfo:
        door = await system.experiments()
        request = ExperimentRequest(tenant=await system.tenant(tenant), **wanted)
        plan = await door.plan(request)
        if not (yes or quiet):
            say_plan(plan)
        work = plan.to_embed
        needed = work.vector_bytes + work.text_bytes + work.record_bytes
        confirm_with_space("Begin?", needed_bytes=needed, free_bytes=work.free_bytes, yes=yes)
        begun = await door.begin(request)
        if system.stands_still():
            warn("no orchestrator runs here: the comparison goes on when one does (`embedfleet serve`)")
        return begun

    return with_system(place, begin)


def _source(chosen: Mapping[QuestionSource, bool]) -> QuestionSource:
    """Return the one that was chosen; without any, titles and headings."""
    from embedfleet.sql.states import QuestionSource

    sources = [source for source, is_chosen in chosen.items() if is_chosen]
    if len(sources) > 1:
        raise typer.BadParameter("give one of --questions, --known-items, --query-log and --online")
    return sources[0] if sources else QuestionSource.KNOWN_ITEMS


def _read(questions: Path | None, qrels: Path | None) -> tuple[LabelledQuestion, ...]:
    """Return the labelled questions of these files; none without any."""
    from embedfleet.evaluation.question_files import read_beir, read_trec
    from embedfleet.experiments.schemas import LabelledAnswer, LabelledQuestion

    if questions is None and qrels is None:
        return ()
    if questions is None:
        raise typer.BadParameter(
            "right answers need their questions: give the file of TREC topics with --questions too",
            param_hint="--qrels",
        )
    if questions.is_dir():
        if qrels is not None:
            raise typer.BadParameter(
                f"{questions} is a folder as BEIR has it, with its right answers in it: leave --qrels out",
                param_hint="--qrels",
            )
        found = read_beir(questions)
    elif qrels is None:
        raise typer.BadParameter(
            f"{questions} is a file of TREC topics: give the file of right answers with --qrels too",
            param_hint="--questions",
        )
    else:
        found = read_trec(questions, qrels)
    if found.unanswered or found.orphans:
        are = "is" if found.unanswered == 1 else "are"
        warn(
            f"{number_of(found.unanswered, 'question')} without a right answer {are} left out, and "
            f"{number_of(found.orphans, 'judgement')} without a question"
        )
    return tuple(
        LabelledQuestion(
            text=one.text,
            answers=tuple(LabelledAnswer(media_id=each.document, gain=each.gain) for each in one.answers),
        )
        for one in found.questions
    )


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        raise typer.BadParameter("say who decides by this", param_hint="--owner") from None


def _show(experiment: ExperimentInfo, *, as_json: bool) -> None:
    if as_json:
        print_json({"experiment": experiment.json_document()})
    else:
        say_experiment(experiment)


def _with_experiments(place: Place, act: Callable[[Experiments], Awaitable[T]]) -> T:
    """Run `act` as the operator of this machine, or as whose API key it is; returns what it returns."""

    async def run(system: System) -> T:
        return await act(await system.experiments())

    return with_system(place, run)
