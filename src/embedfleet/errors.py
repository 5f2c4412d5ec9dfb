"""Every error embedfleet raises on purpose, in one tree.

::

    EmbedfleetError
    ├── ConfigError            a setting is wrong; nothing was started
    ├── InputError             the caller's input is wrong; nothing was stored of it
    │   ├── InvalidRequest     an argument is out of range or contradicts another
    │   ├── UnknownJob         no such job for this tenant
    │   ├── UnknownDocument    no such document for this tenant
    │   ├── UnknownDeadLetter  no such dead letter for this tenant
    │   ├── UnknownKey         no such API key for this tenant
    │   ├── UnknownTenant      there is nothing of such a tenant
    │   ├── UnknownReceipt     no such receipt of a deletion for this tenant
    │   ├── UnknownShadow      no such shadow run
    │   ├── UnknownSwitch      no such switch to another model
    │   ├── UnknownExperiment  no such comparison of two models
    │   ├── UnknownImpression  no answer of this id takes feedback from this tenant
    │   ├── UnknownModel       no such model in the catalogue
    │   ├── KeyReused          an idempotency key was used for another request before
    │   └── ParseError         a file cannot be turned into text
    │       └── EmptyDocument  there is no text in it
    ├── AccessDenied           the caller may not do it
    │   ├── Unauthenticated    the API key is missing, wrong, expired or revoked
    │   └── Forbidden          the API key lacks a scope, or the address is not allowed
    ├── QuotaExceeded          the tenant's limits do not allow it now
    ├── PathRetired            the old path answers no more: the traffic goes to the fleet
    ├── NotReady               a step of the move to the fleet is not allowed yet, or not any more
    ├── OverBudget             the next work would cost more than may be spent
    ├── DataDirectoryInUse     another process owns the data directory
    ├── Transient              try again later: the work itself is fine
    │   ├── DatabaseUnavailable
    │   ├── VectorStoreUnavailable
    │   ├── StoreMoved         the vectors are in another store now, or about to be
    │   ├── BrokerUnavailable
    │   ├── PlacementUnavailable  the cluster that places workers is away, or has no room for one
    │   ├── WebhookUnavailable
    │   ├── ViewUnavailable    a view for others cannot be written now
    │   ├── ModelUnavailable    a model cannot be used now: it is not loaded, or its server does not answer
    │   ├── NotYetVisible      what a search was to wait for is still under way
    │   ├── RequestUnderWay    the first try of a repeated request is still being answered
    │   ├── ServerUnavailable  the HTTP API that a client uses does not answer
    │   └── LaterMessage       a queue message of a later release: a worker of that release can read it
    ├── Permanent              trying again gives the same error: dead letter
    │   ├── SpaceMismatch      vectors of another model would be mixed in
    │   ├── ModelError         the model cannot be loaded or gives unusable output
    │   └── UndecodableMessage a queue message cannot be read
    ├── ModelFailure           a model did not survive its input: tried again as after a worker's death
    │   ├── ModelStuck         it did not come back from a call
    │   └── ModelExhausted     memory does not hold a single text
    ├── VectorStoreDied        its process did not survive a call: tried again as after a worker's death
    ├── ServerFailed           the HTTP API that a client uses has a defect
    ├── StorageFull            the disk refused a write; nothing of the transaction was kept
    └── LeaseLost              the worker no longer holds the task: drop the result

A message is one line: what was wrong, where, and what to do. It names no command and no flag, because a
library and an HTTP server raise it too: what a command does about it is its `remedy`, which each front end
says in its own terms. An adapter maps its library's errors to these once, ``from exc``. Workers decide by
class: `Transient` is retried, `Permanent` is dead-lettered, `LeaseLost` is dropped.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import StrEnum


def hint(wrong: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest known name, or all known names."""
    names = sorted(known)
    nearest = difflib.get_close_matches(wrong, names, n=1)
    return f"did you mean `{nearest[0]}`?" if nearest else f"known are: {', '.join(names)}"


def one_line(message: BaseException | str) -> str:
    """Return the text, or the exception's message, with each run of white space as one space.

    A lone surrogate, which a message may quote, is written as `\\ud800`: no answer or file can hold it.
    """
    return " ".join(str(message).split()).encode("utf-8", "backslashreplace").decode()


class Remedy(StrEnum):
    """The operation that ends an error. A front end adds its own command, link or button to the message.

    The values are stable: they cross processes.
    """

    LIST_JOBS = "list_jobs"
    LIST_DOCUMENTS = "list_documents"
    LIST_KEYS = "list_keys"
    LIST_DEAD_LETTERS = "list_dead_letters"
    LIST_RECEIPTS = "list_receipts"
    LIST_TENANTS = "list_tenants"
    LIST_SHADOWS = "list_shadows"
    LIST_SWITCHES = "list_switches"
    LIST_EXPERIMENTS = "list_experiments"
    CHOOSE_MODEL = "choose_model"
    CHOOSE_FILES = "choose_files"
    PRUNE_ALL = "prune_all"
    CHOOSE_DATA_DIRECTORY = "choose_data_directory"
    OVERWRITE_FILE = "overwrite_file"
    REPLACE_DATA_DIRECTORY = "replace_data_directory"
    UPGRADE_SCHEMA = "upgrade_schema"
    UPGRADE_SCHEMA_AND_REBUILD = "upgrade_schema_and_rebuild"
    REBUILD_VECTORS = "rebuild_vectors"
    DOWNLOAD_MODEL = "download_model"
    SHOW_SYSTEM = "show_system"
    MOVE_VECTORS = "move_vectors"
    END_MOVE = "end_move"
    EXAMINE = "examine"
    SHOW_TRAFFIC = "show_traffic"
    RESTORE_OLD_PATH = "restore_old_path"

    @classmethod
    def from_code(cls, code: str | None) -> Remedy | None:
        """Return the remedy of this value; None for no value, or for a value of another release."""
        return next((remedy for remedy in cls if remedy.value == code), None)


class EmbedfleetError(Exception):
    """Root of the tree. `str()` is the whole message, one line; `remedy` is None if no operation helps."""

    def __init__(self, message: str, *, remedy: Remedy | None = None) -> None:
        super().__init__(message)
        self.remedy = remedy


class ConfigError(EmbedfleetError):
    """A setting is wrong."""


class InputError(EmbedfleetError):
    """The caller's input is wrong."""


class InvalidRequest(InputError):
    """An argument is out of range, empty, or contradicts another.

    `field` is the path of the wrong field, such as `chunking_config.overlap`; it is empty if no single field
    is wrong. `reason` is the message without the field.
    """

    def __init__(
        self, message: str, *, field: str = "", reason: str | None = None, remedy: Remedy | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.field = field
        self.reason = message if reason is None else reason


class UnknownJob(InputError):
    """No such job for this tenant."""


class UnknownDocument(InputError):
    """No such document for this tenant."""


class UnknownDeadLetter(InputError):
    """No such dead letter for this tenant."""


class UnknownKey(InputError):
    """No such API key for this tenant."""


class UnknownTenant(InputError):
    """There is nothing of such a tenant."""


class UnknownReceipt(InputError):
    """No such receipt of a deletion for this tenant."""


class UnknownShadow(InputError):
    """There is no such shadow run."""


class UnknownSwitch(InputError):
    """There is no such switch of a tenant to another model."""


class UnknownExperiment(InputError):
    """There is no comparison of two models with this id."""


class UnknownImpression(InputError):
    """No answer with this id takes feedback from this tenant: it is another's, or was shown too long ago."""


class UnknownModel(InputError):
    """No such model in the catalogue."""


class KeyReused(InputError):
    """An idempotency key was used for another request before."""


class ParseError(InputError):
    """A file cannot be turned into text."""


class EmptyDocument(ParseError):
    """A file is empty, or holds nothing but white space. Nothing of it is lost."""


class AccessDenied(EmbedfleetError):
    """The caller may not do it."""


class Unauthenticated(AccessDenied):
    """The API key is missing, wrong, expired or revoked. The message does not say which of the last three."""


class Forbidden(AccessDenied):
    """The API key lacks a scope, or the request comes from where it is not taken."""


class QuotaExceeded(EmbedfleetError):
    """The tenant's limits do not allow this now.

    `name` is the limit's name, as in the settings of a tier (`daily_tokens`). `limit` is what it allows,
    `used` what the tenant has used of it before this request; both count what the name says. `retry_after` is
    in seconds: the time until the limit counts from zero again, or a pause for unfinished jobs to end. It is
    None if the request is too large at any time.
    """

    def __init__(
        self,
        message: str,
        *,
        name: str = "",
        limit: int,
        used: int,
        retry_after: float | None,
        remedy: Remedy | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.name = name
        self.limit = limit
        self.used = used
        self.retry_after = retry_after


class PathRetired(EmbedfleetError):
    """The old path is retired: it ingests nothing. `RESTORE_OLD_PATH` takes that back, for a time."""


class NotReady(EmbedfleetError):
    """A step of the move to the fleet is not allowed in the present state. The message says what is missing.

    Nothing was changed.
    """


class OverBudget(EmbedfleetError):
    """The next work would cost more than is left of what may be spent. Nothing of it was begun."""


class DataDirectoryInUse(EmbedfleetError):
    """Another process owns the data directory; the message names it."""


class Transient(EmbedfleetError):
    """The work is fine, but a service is not: try again later, not before `retry_after_seconds`."""

    def __init__(
        self, message: str, *, retry_after_seconds: float = 0.0, remedy: Remedy | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_seconds = retry_after_seconds


class DatabaseUnavailable(Transient):
    """The SQL database cannot be reached or stayed locked."""


class VectorStoreUnavailable(Transient):
    """The vector store cannot be reached."""


class StoreMoved(Transient):
    """The vectors are in another store than the one that was used, or about to be: use that one."""


class BrokerUnavailable(Transient):
    """The broker cannot be reached or is closed."""


class PlacementUnavailable(Transient):
    """The cluster that places workers cannot be reached, or no node of it can take a worker now."""


class WebhookUnavailable(Transient):
    """The receiver of events did not confirm that it has an event."""


class ViewUnavailable(Transient):
    """A view for others cannot be written now: its place is away, or in use by another process."""


class ModelUnavailable(Transient):
    """A model cannot be used now: it cannot be loaded, is in quarantine, or its server does not answer."""


class NotYetVisible(Transient):
    """Searches do not find yet what was submitted at a position, and the time to wait for it is over."""


class RequestUnderWay(Transient):
    """The first try of a repeated request is still being answered."""


class ServerUnavailable(Transient):
    """The HTTP API cannot be reached, or a proxy before it answers in its place."""


class LaterMessage(Transient):
    """A queue message was made by a later release than this one."""


class Permanent(EmbedfleetError):
    """Trying again would give the same error."""


class SpaceMismatch(Permanent):
    """A vector or a query is not of the space of the collection."""


class ModelError(Permanent):
    """A model cannot be loaded, or its output is unusable (wrong shape, not finite)."""


class UndecodableMessage(Permanent):
    """A queue message that no release can have made."""


class ModelFailure(EmbedfleetError):
    """A model failed over its input. The input is tried again, as after the death of a worker."""


class ModelStuck(ModelFailure):
    """A call of a model did not return in time."""


class ModelExhausted(ModelFailure):
    """Memory is short even for a single text: free some, or run fewer models."""


class VectorStoreDied(EmbedfleetError):
    """The process of the embedded vector store ended during a call. The next call starts another process."""


class ServerFailed(EmbedfleetError):
    """The HTTP API could not answer because of a defect. Its log says more."""


class StorageFull(EmbedfleetError):
    """The disk is full. The whole transaction was rolled back."""


class LeaseLost(EmbedfleetError):
    """The fence is stale: the task was delivered again, finished or cancelled since it was leased."""
