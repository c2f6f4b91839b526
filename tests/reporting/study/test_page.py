"""The page of the study: complete without network, whatever is missing and whatever the samples say."""

import base64
import json
import re
import zlib
from dataclasses import replace

import pytest

from k2model.errors import visible
from k2model.evals.clean_scores import SeenItems
from k2model.evals.matrix import Checkpoint
from k2model.evals.repeats import with_repeats
from k2model.evals.scores import by_score, row_of
from k2model.recipe import load_recipe
from k2model.reporting.study.content import Asked, Study, chosen_items, lineage_of, sampled_checkpoints, study_of
from k2model.reporting.study.page import study_page
from k2model.reporting.study.published import published, published_for
from k2model.reporting.study.samples import gallery_columns, packed, shortened
from tests.reporting.lifecycle_fixture import COMMANDS, HOSTILE
from tests.reporting.study.lives import CHAT, ITEMS, RECIPE, SKILLS, checkpoints, life, results
from tests.reporting.test_report import Page


def seen() -> SeenItems:
    """Every phase came to the first ten items of gsm8k at its step 3; nothing else was looked up."""
    first = {("gsm8k", f"item {number}"): 3 if number < 10 else None for number in range(ITEMS)}
    return SeenItems({phase.name: phase.parent for phase in RECIPE.phases}, {p.name: first for p in RECIPE.phases})


def gaps(one: Checkpoint, score: str) -> bool:
    return (score == "gsm8k" and one.reference in ("pretrain@546", "mid_2")) or score == "never"


@pytest.fixture(scope="module")
def study() -> Study:
    return study_of(RECIPE, life(4, gaps), seen())


@pytest.fixture(scope="module")
def page(study: Study) -> str:
    return study_page(study)


@pytest.fixture(scope="module")
def parsed(page: str) -> Page:
    return Page(re.sub(r"<script.*?</script>", "", page, flags=re.S))


def test_every_element_is_closed_and_links_have_targets(parsed: Page) -> None:
    assert parsed.unbalanced == []
    names = {attributes["id"] for _, attributes in parsed.tags if "id" in attributes}
    links = {attributes["href"] for tag, attributes in parsed.tags if tag == "a"}
    assert links and all(str(link)[:1] == "#" and str(link)[1:] in names for link in links)


def test_it_loads_nothing(page: str, parsed: Page) -> None:
    assert {"link", "iframe", "img", "object", "embed"}.isdisjoint(tag for tag, _ in parsed.tags)
    assert not any(name in ("src", "srcset", "data", "poster") for _, attributes in parsed.tags for name in attributes)
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", page, re.S)
    code = "".join(scripts[1:])
    assert len(scripts) == 3 and "<script src" not in page
    assert not re.search(r"https?://|//[a-z]+\.[a-z]|fetch\(|XMLHttp|importScripts|innerHTML|eval\(", code)
    assert "default-src 'none'" in page
    style = page.split("<style>")[1].split("</style>")[0]
    assert "@import" not in style and "url(" not in style


def test_what_models_write_stays_text(page: str, parsed: Page) -> None:
    # Neither in the gallery nor in the packed samples.
    assert HOSTILE not in page and visible(HOSTILE) not in page and not COMMANDS & {*page}
    assert any(visible(HOSTILE) in text for text in "".join(parsed.texts).split("\n"))
    assert not any("onerror" in name or "onload" in name for _, attributes in parsed.tags for name in attributes)


def test_tests_and_overlap_stand_beside_every_capability(page: str) -> None:
    def line(score: str) -> str:
        return re.search(rf'<tr data-score="{score}">.*?</tr>', page, re.S).group()  # type: ignore[union-attr]

    assert "<mark>−0." in line("facts/heldout_wording")  # it was lost
    assert '<span class="tag">mid_1@' in line("arithmetic/think")  # at two fifths of the tokens
    assert "not above 0.25" in line("code/next_line") and "chance 0.25" in line("code/next_line")
    assert "10 of 40" in line("gsm8k") and "without: 0." in line("gsm8k")
    assert "not looked up" in line("arithmetic/think")
    assert re.search(r"<td class=\"right\">\d+%</td>", line("facts/heldout_wording"))  # cut off


def test_what_is_missing_is_told(study: Study, page: str) -> None:
    (gsm8k,) = (one for one in study.series if one.score == "gsm8k")
    assert [one.reference for one in gsm8k.missing] == ["pretrain@546", "mid_2"] and study.missing == 2
    assert page.count('class="missing"') == 2 and "mid_2: not measured" in page
    assert "pretrain: 1, mid_2: 1" in page
    nothing = study_of(RECIPE, life(2, lambda one, score: True))
    bare = study_page(nothing)
    assert nothing.series == [] and set(nothing.unmeasured) == {*SKILLS, *CHAT}
    assert "No checkpoint has been measured yet" in bare and "every checkpoint" in bare
    assert Page(re.sub(r"<script.*?</script>", "", bare, flags=re.S)).unbalanced == []


def test_published_scores_stand_where_the_benchmark_is_the_same(page: str) -> None:
    assert "K2-V2 70B, as published: GSM8K 0.925 after mid_4" in page
    assert "published: MMLU" not in page
    assert {row.phase for row in published()} == {"pretrain", "mid_1", "mid_2", "mid_3", "mid_4", "sft"}
    assert len(published()) == 51 + 15 and all(0 <= row.value <= 1 for row in published())
    (high,) = published_for("aime25/high", ["sft"])
    assert (high.benchmark, high.value) == ("AIME25", pytest.approx(0.802))
    assert published_for("aime25", ["sft"]) == [] == published_for("arithmetic/high", ["sft"])


def test_long_texts_and_efforts_have_figures(study: Study, page: str) -> None:
    assert [one.reference for one in study.maps] == [phase.name for phase in RECIPE.phases]
    cells = {(one.length, one.depth): one for one in study.maps[checkpoints(4)[-1]]}
    assert set(cells) == {(length, depth / 4) for length in (1024, 4096) for depth in range(5)}
    told = results("needle/1024", SKILLS["needle/1024"](1.0), checkpoints(4)[-1].order)
    mark = sum(one.value for one in told if one.cluster == "depth 0.25") / 8
    assert (cells[1024, 0.25].value, cells[1024, 0.25].items) == (mark, 8)
    assert "<h4>Needle, pretrain</h4>" in page and f"1,024 tokens, depth 25%: {mark:.0%} of 8" in page
    efforts = [one for one in study.thinking[checkpoints(4)[-1]] if one.family == "arithmetic"]
    assert [one.effort for one in efforts] == ["low", "medium", "high"] and 90 < efforts[-1].thinking_mean < 97
    assert "<h4>Arithmetic, sft</h4>" in page


def test_the_gallery_shows_one_item_of_each_score_at_every_checkpoint(study: Study) -> None:
    assert set(study.gallery) == {*SKILLS, *CHAT} and len(set(study.gallery.values())) == 1
    shown = [one.checkpoint.reference for one in study.samples if one.result.score == "facts/heldout_wording"
             and one.result.item == study.gallery["facts/heldout_wording"]]  # fmt: skip
    assert shown == [one.reference for one in checkpoints(4)]
    many = checkpoints(50)
    columns = gallery_columns(many)
    assert len(columns) <= 12 and {one for one in many if one.last} <= set(columns) and columns == sorted(columns)
    assert gallery_columns(many[:5]) == many[:5]


def test_samples_travel_packed_and_whole(study: Study, page: str) -> None:
    script = re.search(r'id="samples-data">([A-Za-z0-9+/=]+)</script>', page)
    content = json.loads(zlib.decompress(base64.b64decode(script.group(1))))  # type: ignore[union-attr]
    texts = content["texts"]
    read = [
        (content["scores"][score], content["checkpoints"][at], texts[prompt], texts[written], grade)
        for score, at, prompt, written, grade in zip(
            *(content[name] for name in ("score", "checkpoint", "prompt", "written", "grade")), strict=True
        )
    ]
    assert read == [
        (
            one.result.score,
            one.checkpoint.reference,
            visible(one.result.prompt),
            visible(one.result.generation),
            one.result.grade.value,
        )
        for one in study.samples
    ]
    assert len(texts) == len(set(texts)) and study.sampled == len(study.samples)  # there is room for all of these
    assert len(packed(study)) < sum(len(one.result.generation) for one in study.samples)


def test_of_very_many_checkpoints_the_same_items_are_shown() -> None:
    many = checkpoints(400)
    kept = sampled_checkpoints(many, scores=20)
    assert {one for one in many if one.last} <= kept and 200 < len(kept) <= 250
    asked = results("facts/heldout_wording", 0.5, 1)
    assert chosen_items(asked, 4) == chosen_items(reversed(asked), 4) and len(chosen_items(asked, 99)) == ITEMS
    long = shortened("a" * 5_000, 100)
    assert long.startswith("a" * 50 + " […4,900 characters left out…] ") and len(long) < 150


@pytest.mark.parametrize("each", [1, 30])
def test_one_checkpoint_and_many_render(each: int) -> None:
    made = study_of(RECIPE, life(each, scores=("code/next_line", "arithmetic/high")))
    page = study_page(made)
    assert Page(re.sub(r"<script.*?</script>", "", page, flags=re.S)).unbalanced == []
    assert len(made.checkpoints) == 6 * each
    assert (page.count('class="spread') > 0) is (each == 30)  # bands of many


def test_what_several_answers_say_has_series_and_tests_and_no_samples_of_its_own() -> None:
    asked = []
    for one in checkpoints(2):
        skill = one.order / 12
        read = [
            replace(answer, repeat=repeat, seed=one.order * 10 + repeat)
            for repeat in range(4)
            for answer in results("exam", skill, 100 * one.order + repeat)
        ]
        found = with_repeats(read, 4)
        rows = tuple(row_of(one.phase, score, own, "Law") for score, own in by_score(found).items())
        asked.append(Asked(one, "exam", rows, lambda found=found: found))
    made = study_of(RECIPE, asked)
    assert [one.score for one in made.series] == ["exam", "exam/pass@2", "exam/pass@4"]
    assert [one.points[-1].value for one in made.series] == sorted(one.points[-1].value for one in made.series)
    assert {shown.result.score for shown in made.samples} == set(made.gallery) == {"exam"}
    drawn = study_page(made)
    assert "exam, pass@2" in drawn and "exam, pass@4" in drawn


def test_a_lone_checkpoint_has_no_past() -> None:
    (alone,) = (one for one in life(1) if one.checkpoint.phase == "pretrain" and one.task == "code/next_line")
    page = study_page(study_of(RECIPE, [alone]))
    assert "one checkpoint" in page and "lost since" in page.lower()


def test_lines_of_descent_end_with_the_last_phase() -> None:
    assert lineage_of(RECIPE) == tuple(phase.name for phase in RECIPE.phases)
    changes = {"phases.+": {"like": "mid_1", "name": "aside", "parent": "pretrain"}}
    assert lineage_of(load_recipe("laptop", changes)) == ("pretrain", "aside")
