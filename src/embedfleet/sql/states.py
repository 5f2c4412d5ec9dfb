"""The states of rows, as text. The values are stable: SQL holds them."""

from __future__ import annotations

from enum import StrEnum


class GenerationState(StrEnum):
    """`building` and `live` generations keep their vectors; a `retired` generation needs none."""

    BUILDING = "building"
    LIVE = "live"
    RETIRED = "retired"


class BatchState(StrEnum):
    PENDING = "pending"
    EMBEDDED = "embedded"
    DONE = "done"


class VectorState(StrEnum):
    """`stored`: the vector store holds it. `deleting`: no generation refers to it, and a deletion task
    removes it; until then its id must not be written again."""

    STORED = "stored"
    DELETING = "deleting"


class MovePhase(StrEnum):
    """How far a move of the vectors is (`store_moving`).

    `copying`: the other store is filled. `verifying`: all of its rows are read back. `closing`: no unit may
    record vectors, until the last rows are copied. `keeping`: the other store, which was the system's, is
    kept in step. `dropping`: the other store is emptied. `ended`: there is one store.
    """

    COPYING = "copying"
    VERIFYING = "verifying"
    CLOSING = "closing"
    KEEPING = "keeping"
    DROPPING = "dropping"
    ENDED = "ended"


class SwitchPhase(StrEnum):
    """How far a tenant's switch to another model is (`model_switching`).

    From the beginning to `retiring`, what is submitted is embedded with both models. `filling`: the documents
    of before are embedded with the new model. `checking`: its vectors are read back, and the gate asks both
    spaces the tenant's questions. `refused`: the gate has stopped the switch. `serving`: the gate is passed,
    a share of the queries (0 to 100 %) is answered from the new space, and both spaces are kept. `retiring`:
    the space that no query uses is emptied. `ended`: the tenant has one space.
    """

    FILLING = "filling"
    CHECKING = "checking"
    REFUSED = "refused"
    SERVING = "serving"
    RETIRING = "retiring"
    ENDED = "ended"


class ExperimentPhase(StrEnum):
    """How far a comparison of two models is (`experiments`).

    `preparing`: the space of model B is filled. `piloting`: the first questions are asked, which say how many
    are needed, and whether to trust the comparison. `asking`: both models are asked. `showing`: searches get
    hits of both models, and people's clicks are counted. `ended`: there is a verdict.
    """

    PREPARING = "preparing"
    PILOTING = "piloting"
    ASKING = "asking"
    SHOWING = "showing"
    ENDED = "ended"


class QuestionSource(StrEnum):
    """Where the questions of a comparison come from: `known_items` from titles and headings of the documents,
    `labelled` from files, `query_log` from earlier searches, `clicks` from people who search (online)."""

    KNOWN_ITEMS = "known_items"
    LABELLED = "labelled"
    QUERY_LOG = "query_log"
    CLICKS = "clicks"


class DeadLetterEnd(StrEnum):
    """`requeued`: its job ran again. `replaced`: a newer generation of its document is complete. `purged`: an
    operator accepted the loss."""

    REPLACED = "replaced"
    REQUEUED = "requeued"
    PURGED = "purged"
