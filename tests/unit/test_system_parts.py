"""Which part belongs to which system: the rules, case by case."""

from __future__ import annotations

import pytest

from embedfleet.errors import ConfigError, Remedy
from embedfleet.system_parts import Mark, Part, PartKind, SystemRecord, Verdict, judge

QUEUES = PartKind.QUEUES
PLACE = "in Redis at redis:6379/0, key prefix embedfleet"
NEW = SystemRecord("s1")
KNOWN = SystemRecord("s1", {kind: Part("p1", PLACE, 0.0) for kind in PartKind})
OURS = Mark("s1", "p1", "db one")
REPLACED = Mark("s1", "p0", "db one")
THEIRS = Mark("s2", "p2", "db two")


def judged(
    system: SystemRecord,
    held: Mark | None,
    *,
    place: str = PLACE,
    holds_work: bool = False,
    others_run: bool = False,
    kind: PartKind = QUEUES,
) -> Verdict:
    return judge(kind, system, held, place, database="db one", holds_work=holds_work, others_run=others_run)


def test_a_part_with_the_right_mark_is_ours_wherever_it_is() -> None:
    assert judged(KNOWN, OURS) is Verdict.OURS
    assert judged(KNOWN, OURS, place="in Redis at 10.0.0.1:6379/0", others_run=True) is Verdict.OURS


def test_new_parts_of_a_new_system_are_adopted_also_beside_vectors_of_an_earlier_release() -> None:
    assert judged(NEW, None) is Verdict.ADOPT
    assert judged(NEW, None, kind=PartKind.VECTORS, holds_work=True) is Verdict.ADOPT


def test_a_crash_between_mark_and_record_is_made_up_for() -> None:
    assert judged(NEW, OURS) is Verdict.RECORD


def test_an_emptied_broker_is_marked_again_by_the_leader_or_else_by_the_first_that_starts() -> None:
    assert judged(KNOWN, None) is Verdict.MARK_AGAIN
    assert judged(KNOWN, None, others_run=True) is Verdict.WAIT


@pytest.mark.parametrize(
    ("system", "held", "place", "words"),
    [
        (KNOWN, THEIRS, PLACE, ("another system (s2, with the database db two)", "db one (s1)")),
        (NEW, THEIRS, PLACE, ("another system (s2, with the database db two)", "`redis.key_prefix`")),
        (KNOWN, REPLACED, "in Redis at old:6379/0", ("in Redis at old:6379/0 were replaced", PLACE)),
        (KNOWN, None, "in a process", ("say in a process", PLACE, "`redis.url`")),
    ],
    ids=["another system's", "another system's, we are new", "replaced", "a half-configured host"],
)
def test_what_is_not_ours_is_refused_and_both_are_named(
    system: SystemRecord, held: Mark | None, place: str, words: tuple[str, ...]
) -> None:
    for others_run in (False, True):
        with pytest.raises(ConfigError) as refused:
            judged(system, held, place=place, others_run=others_run)
        assert refused.value.remedy is Remedy.SHOW_SYSTEM
        for word in words:
            assert word in str(refused.value)


def test_a_host_with_another_vector_store_is_told_how_vectors_are_moved() -> None:
    with pytest.raises(ConfigError, match="set `vector_store` as on its other hosts") as refused:
        judged(KNOWN, None, place="in PostgreSQL at db", kind=PartKind.VECTORS, others_run=True)
    assert "have the vectors moved there" in str(refused.value)
    assert refused.value.remedy is Remedy.MOVE_VECTORS


def test_an_emptied_store_is_refused_while_sql_records_vectors_in_it() -> None:
    with pytest.raises(ConfigError, match="are gone") as refused:
        judged(KNOWN, None, kind=PartKind.VECTORS, holds_work=True)
    assert refused.value.remedy is Remedy.REBUILD_VECTORS
    assert judged(KNOWN, None, kind=PartKind.VECTORS) is Verdict.MARK_AGAIN


def test_a_mark_survives_its_text_and_an_unknown_text_is_another_systems() -> None:
    assert Mark.from_text(OURS.to_text()) == OURS
    for text in ("", "{}", "[]", "null", '{"system_id": 1}'):
        with pytest.raises(ConfigError):
            judged(KNOWN, Mark.from_text(text))
