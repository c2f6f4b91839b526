"""A month's deliveries: the same each time, good ones apart from bad ones, and none of them twice in the inbox."""

import json
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from k2model.artifacts import Store
from k2model.continual.batches import Broken, Manifest
from k2model.continual.inbox import BatchChanged, Inbox
from k2model.continual.month import material
from k2model.continual.month.days import LENGTH, OUTAGE, Day, Delivery, Form, Known, day, month
from k2model.continual.month.delivery import deliver
from k2model.continual.month.home import linked
from k2model.continual.month.recipe import SEED, ordered_items, tiny, write_items
from k2model.continual.month.run import fired, kickoffs, run
from k2model.documents.families import arithmetic
from k2model.documents.schema import is_heldout
from k2model.recipe.continual import BatchKind, SchedulesConfig
from k2model.recipe.validate import validate_recipe

SIZE = 10
ALL = SchedulesConfig(arrivals="0 1 * * *", turn="0 2 * * *", evaluation="0 4 * * 0", release="0 5 1 * *")


@pytest.fixture(scope="module")
def known() -> Known:
    chats = [material.dialogue(task.prompt, task.answer, "low") for task in arithmetic.pool(Random(1), 300)]
    prose = [f"The {n} of the house is to be of {n * n} and with the rest of it" for n in range(40)]
    return Known(chats, prose, ordered_items())


@pytest.fixture(scope="module")
def days(known: Known) -> list[Day]:
    return month(SEED, known, SIZE)


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inbox:
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    return Inbox.open(Store.open(tmp_path / "store"), tiny())


def deliveries(days: list[Day]) -> dict[str, Delivery]:
    return {one.batch: one for each in days for one in each.deliveries}


def test_a_month_is_a_function_of_its_seed(known: Known, days: list[Day]) -> None:
    assert month(SEED, known, SIZE) == days
    assert month(SEED + 1, known, SIZE) != days
    assert [each.number for each in days] == [*range(1, LENGTH + 1)]


def test_the_month_has_every_kind_of_arrival(days: list[Day]) -> None:
    forms = {one.form for each in days for one in each.deliveries}
    assert forms == {*Form}
    assert {one.kind for each in days for one in each.deliveries} == {*BatchKind}
    assert sum(not each.deliveries for each in days) >= 5, "days without arrivals"
    assert any(dict(one.said).get("covers") for one in deliveries(days).values()), "a late one"
    assert sum(one.good for one in deliveries(days).values()) == 10


def test_good_batches_hold_no_held_out_item_and_the_contaminated_one_does(known: Known, days: list[Day]) -> None:
    items = {one["prompt"] for one in known.ordered_items}
    for one in deliveries(days).values():
        if one.domain == material.ORDERED and one.good:
            assert not any(is_heldout(row["key"]) for row in one.rows), one.batch
            assert not items & {material.question_of(row) for row in one.rows}, one.batch
    leaked = deliveries(days)["contaminated"]
    assert items & {material.question_of(row) for row in leaked.rows}


def test_no_two_good_batches_share_a_question(days: list[Day]) -> None:
    asked = [
        material.question_of(row)
        for one in deliveries(days).values()
        if one.good and one.kind is BatchKind.TUNED
        for row in one.rows
    ]
    assert len(asked) == len({*asked})


def test_answers_are_right_but_where_they_are_meant_to_be_wrong(days: list[Day]) -> None:
    for one in deliveries(days).values():
        if one.domain == material.ORDERED and one.form is Form.WHOLE and one.batch != "misnamed":
            for row in one.rows:
                digits = [c for c in material.question_of(row) if c.isdigit()]
                assert material.answer_of(row) == "".join(sorted(digits)), one.batch
    wrong = 0
    for row in deliveries(days)["mislabelled"].rows:
        wrong += material.answer_of(row) != arithmetic.solve(row["key"]).answer
    assert 0 < wrong < len(deliveries(days)["mislabelled"].rows) / 2


def test_of_the_facts_one_wording_is_in_no_text(days: list[Day]) -> None:
    text = "\n".join(row["text"] for number in (1, 2) for row in deliveries(days)[f"rivers-{number}"].rows)
    facts = material.river_facts(SEED)
    assert len({fact.river for fact in facts}) == material.FACTS
    for fact, item in zip(facts, material.river_items(facts), strict=True):
        assert item["prompt"] not in text
        assert f"{item['prompt']} {item['answer']}" == fact.statement(fact.heldout_wording)


def test_deliveries_come_into_the_inbox_as_they_are_meant_to(days: list[Day], inbox: Inbox, tmp_path: Path) -> None:
    for each in days:
        for one in each.deliveries:
            deliver(inbox, one, tmp_path / "scratch" / f"{each.number}-{one.batch}")
            contents = inbox.look()
            assert (one.batch in contents.unfinished) is (one.form is Form.BEGUN)
    found = {one.name: one for one in inbox.look().all}
    assert {*found} == {*deliveries(days)}
    broken = {name for name, one in found.items() if isinstance(one, Broken)}
    assert broken == {"nothing", "unreadable"}
    for name, one in found.items():
        if isinstance(one, Manifest) and name != "changed":
            inbox.check(one)
    with pytest.raises(BatchChanged, match="changed"):
        inbox.check(inbox.manifest("changed"))


def test_a_delivery_that_was_killed_is_gone_on_with_and_a_whole_one_left(
    days: list[Day], inbox: Inbox, tmp_path: Path
) -> None:
    one = deliveries(days)["ordering-1"]
    deliver(inbox, one, tmp_path / "scratch")
    digest = inbox.manifest(one.batch).digest
    inbox.files.remove(f"{one.batch}/batch.json")
    deliver(inbox, one, tmp_path / "scratch")
    deliver(inbox, one, tmp_path / "scratch")
    assert inbox.manifest(one.batch).digest == digest


def test_schedules_fire_at_the_times_of_their_cron_expressions() -> None:
    assert kickoffs("0 1 * * *", datetime(2026, 6, 3, tzinfo=UTC)) == [datetime(2026, 6, 3, 1, tzinfo=UTC)]
    first = [(name, at.day) for name, at in fired(Day(1, fires=(1,)), ALL)]
    assert first == [("arrivals", 1), ("turn", 1), ("release", 1)]
    sunday = [name for name, _ in fired(Day(7, fires=(7,)), ALL)]
    assert sunday == ["arrivals", "turn", "evaluation"]


def test_after_an_outage_the_missed_ones_come_first(days: list[Day]) -> None:
    for number in OUTAGE:
        assert not [*fired(days[number - 1], ALL)]
    times = [(at.day, name) for name, at in fired(days[OUTAGE[-1]], ALL)]
    assert times == [(n, name) for n in (*OUTAGE, OUTAGE[-1] + 1) for name in ("arrivals", "turn")]


def test_a_month_that_was_killed_goes_on_and_does_nothing_twice(days: list[Day], inbox: Inbox, tmp_path: Path) -> None:
    fired_: list[tuple[str, datetime]] = []

    def fire(name: str, kickoff: datetime) -> str:
        fired_.append((name, kickoff))
        if len(fired_) == 3:
            raise KeyboardInterrupt
        return name

    with pytest.raises(KeyboardInterrupt):
        run(days[:3], inbox, ALL, fire, tmp_path)
    run(days[:3], inbox, ALL, fire, tmp_path)
    assert fired_[2] == fired_[3], "what was killed is fired again"
    assert len(fired_) == 3 * 2 + 1 + 1  # two a day, a release on the first, and the one that was killed
    assert len({*fired_}) == len(fired_) - 1


def test_links_share_bytes_and_leave_out_what_is_a_stores_own(tmp_path: Path) -> None:
    for path in ("tokens/0123/manifest.json", "_leases/x", "_scratch/y", "_ledger/tokens/a.json"):
        (tmp_path / "one" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "one" / path).write_text(path)
    assert linked(tmp_path / "one", tmp_path / "two") == 2
    assert linked(tmp_path / "one", tmp_path / "two") == 0
    assert (tmp_path / "two/tokens/0123/manifest.json").samefile(tmp_path / "one/tokens/0123/manifest.json")
    assert not (tmp_path / "two/_leases").exists()


def test_the_line_is_a_recipe_that_holds_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    write_items(tmp_path)
    recipe = tiny()
    validate_recipe(recipe)
    for benchmark in recipe.evaluation.benchmarks:
        rows = [json.loads(line) for line in Path(benchmark.location).read_text().splitlines()]
        assert len({row["prompt"] for row in rows}) == len(rows)


def test_dates_begin_on_a_monday() -> None:
    assert day(1).strftime("%A") == "Monday"
