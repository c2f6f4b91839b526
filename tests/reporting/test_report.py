"""The page: complete, self-contained, escaped, and showing the very numbers of the artifacts."""

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from k2model.artifacts import Identity, MissingArtifact, Store, make
from k2model.artifacts.result import LifecycleResult
from k2model.errors import visible
from k2model.reporting import report_step
from k2model.reporting.content import read_content
from k2model.reporting.report import render
from tests.reporting.lifecycle_fixture import COMMANDS, HOSTILE, PHASES, build_lifecycle, score_rows, short_recipe

VOID = {"meta", "br", "img", "link", "input", "hr"}
DRAWN = {"line", "rect", "circle", "polyline", "polygon", "path"}

DATA_DOCS = "data_docs/index.html"


class Page(HTMLParser):
    """Tags, attributes, text, and whether every element is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.unbalanced: list[str] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.unbalanced += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.unbalanced.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def cells(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "td" and "data-score" in attributes]


@pytest.fixture(scope="session")
def parsed(page: str) -> Page:
    return Page(page)


def test_every_element_is_closed(parsed: Page) -> None:
    assert parsed.unbalanced == []


def test_loads_nothing(page: str, parsed: Page) -> None:
    loads = [
        (tag, name, value)
        for tag, attributes in parsed.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "poster", "xlink:href") and not (value or "").startswith("#")
    ]
    assert loads == [("a", "href", DATA_DOCS)]  # a link into the report's own folder, followed by hand
    assert {"script", "link", "iframe", "img", "object", "embed"}.isdisjoint(tag for tag, _ in parsed.tags)
    style = page.split("<style>")[1].split("</style>")[0]
    assert "@import" not in style and "url(" not in style


def test_inner_links_have_targets(parsed: Page) -> None:
    ids = {attributes.get("id") for _, attributes in parsed.tags}
    links = {attributes["href"] or "" for tag, attributes in parsed.tags if tag == "a"} - {DATA_DOCS}
    assert links and {link.removeprefix("#") for link in links} <= ids


def test_data_docs_stand_beside_the_page(store: Store, result: LifecycleResult) -> None:
    assert (store.fetch(make(store, report_step(store, result, {}))) / "attachments" / DATA_DOCS).is_file()


def test_cells_are_the_numbers_of_the_scores(store: Store, result: LifecycleResult, parsed: Page) -> None:
    measured = {}
    for phase in result.phases:
        for row in json.loads((store.fetch(phase.scores) / "scores.json").read_text()):
            measured[row["phase"], row["score"]] = row
    shown = {(cell["data-phase"], cell["data-score"]) for cell in parsed.cells()}
    for cell in parsed.cells():
        assert float(cell["data-value"] or "nan") == measured[cell["data-phase"], cell["data-score"]]["value"]
    assert shown == set(measured)


def test_cells_read_as_value_and_interval(page: str) -> None:
    row = next(r for r in score_rows("mid_1") if r["score"] == "arithmetic/think")
    text = f"<b>{row['value']:.2f}</b><small>{row['low']:.2f}–{row['high']:.2f}</small>"
    assert f'data-phase="mid_1" data-score="arithmetic/think" data-value="{row["value"]}"' in page
    assert text in page


def test_hostile_text_stays_text(page: str, parsed: Page) -> None:
    assert "<script" not in page.lower() and "onload" not in {k for _, a in parsed.tags for k in a}
    assert "onerror" not in {k for _, attributes in parsed.tags for k in attributes}
    assert visible(HOSTILE) in "".join(parsed.texts)  # it is shown as it is, once unescaped by the parser
    assert not COMMANDS & {*page}


def test_names_every_artifact_source_and_gate(result: LifecycleResult, page: str) -> None:
    for name, ref in result.artifacts.items():
        assert f">{name}</th>" in page
        assert ref.identity in page and ref.digest in page
    for phase in result.recipe.phases:
        assert all(entry.source in page for entry in phase.mixture)
    assert page.count("✓ passed") == len(result.recipe.gates)


def test_safety_stands_beside_its_judge_its_parent_and_what_was_published(page: str, parsed: Page) -> None:
    section = page.partition('<section id="safety">')[2].partition("</section>")[0]
    text = " ".join(" ".join(Page(section).texts).split())
    assert "sft against mid_4" in text and "correct refusal 0.00 1.00 +1.00" in text and "better" in text
    assert "rules ours answer refuses" in text and re.search(r"492 0 yes", text)
    assert "harmful under refusal suppression 33.0% not told" in text
    assert "12 cut off" in text, "the earlier phase never ends"


def test_every_figure_draws_something(page: str) -> None:
    figures = page.split("<svg ")[1:]
    # nine families and held-out loss, the training figure, four of its inside, three extensions, four efforts, and
    # the lengths of nine domains, and the lineage
    assert len(figures) == 9 + 1 + 4 + 3 + 4 + 9 + 1
    for figure in figures:
        drawing = figure.split("</svg>")[0]
        assert any(f"<{shape}" in drawing for shape in DRAWN)
        assert "nan" not in drawing.lower() and "inf" not in drawing.split()


def test_an_intervention_is_marked_where_it_was_and_told(store: Store, result: LifecycleResult, page: str) -> None:
    mid_2 = next(one for one in result.phases if one.phase.name == "mid_2")
    [record] = json.loads((store.fetch(mid_2.checkpoint) / "final/state.json").read_text())["interventions"]
    figure = next(part for part in page.split("<svg ") if "training loss and learning rate" in part)
    [mark] = re.findall(r'<g class="intervention"><title>(.*?)</title><line x1="([\d.]+)"', figure)
    assert mark[0].startswith(f"mid_2: went back to step {record['resumed_from']}: {record['reason']}")
    before = sum(phase.tokens for phase in result.recipe.phases[:2])
    share = (before + record["first_step"] * mid_2.phase.tokens_per_step) / result.tokens_seen()["sft"]
    assert float(mark[1]) == pytest.approx(46 + share * (940 - 46), abs=0.1)
    table = page.split('id="interventions"')[1].split("</table>")[0]
    for cell in (f"{record['first_step']}–{record['last_step']}", "1.840", "6.520", "1.860", record["reason"]):
        assert cell in table


def test_inside_training_has_a_line_for_each_domain_that_was_trained(page: str) -> None:
    inside = page.split('id="dynamics"')[1].split("<h3")[0]
    domains, *norms = inside.split("<svg ")[1:]
    for domain in ("prose", "code", "knowledge", "mathematics", "logic", "tools", "chat"):
        assert f">{domain}</text>" in domains
    titles = ("Gradient norm, before clipping", "Norm of all parameters", "Update norm / parameter norm")
    assert [title in inside for title in titles] == [True] * 3
    assert all(figure.count("<polyline") == len(PHASES) for figure in norms), "a line for each phase"


def test_lengths_of_a_domain_are_drawn_to_scale(page: str) -> None:
    section = page[page.index('id="lengths"') : page.index("<h3>Curation")]
    panel = section[section.index("<h4>mathematics") :].split("</svg>")[0]
    bars = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="([\d.]+)"', panel)
    (left, width, tall), (right, _, short) = ([float(value) for value in bar] for bar in bars)
    assert tall == pytest.approx(2 * short, abs=0.1)  # 2 documents from 64 tokens on, 1 from 128 on, of every source
    assert left + width < right < left + width + 2  # neighbours on an axis of powers of two
    assert re.search(r"64 to 127 tokens: (\d+) documents", panel)
    assert "contexts of the phases" in section and 'class="chance"' in section


def test_training_table_shows_utilisation(page: str) -> None:
    table = page.split('id="training"')[1].split("</table>")[0]
    assert table.count(">42%</td>") == len(PHASES)


def test_scores_csv_holds_every_row(report: Path) -> None:
    rows = list(csv.DictReader((report / "scores.csv").open()))
    expected = [row for phase in PHASES for row in score_rows(phase)]
    assert [(r["phase"], r["score"], float(r["value"])) for r in rows] == [
        (r["phase"], r["score"], r["value"]) for r in expected
    ]
    assert [r["chance"] for r in rows] == ["" if r["chance"] is None else str(r["chance"]) for r in expected]


def test_scores_stand_beside_the_overlap_of_their_items(report: Path, page: str) -> None:
    overlap = {row["score"]: row["overlap"] for row in csv.DictReader((report / "scores.csv").open())}
    assert overlap["arithmetic/think"] == "0.0" and overlap["spelling/think"] == "1.0"
    assert overlap["code/next_line"] == overlap["loss/prose"] == ""  # whose items are not kept, and which has none
    cells = [line for line in page.splitlines() if 'data-score="spelling/think"' in line]
    assert cells and all("100.0% of the items seen in training" in line for line in cells)


def test_what_files_have_lost_is_told(page: str) -> None:
    [row] = re.findall(r"<tr><th scope=\"row\">web</th>.*</tr>", page)
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", row)
    assert cells == ["9", "1", "5.00%", "1,203", "2", "malformed_json (1), pointer (1)"]


def test_decontamination_shows_counts_and_both_texts(page: str) -> None:
    table = page.split('id="decontamination"')[1].split("</table>")[0]
    assert "arithmetic</th>" in table and "facts_seen (trained wording)</th>" in table
    assert ">1,286</td>" in table and ">75.0%</td>" in table
    assert page.count("<mark>Compute 4-1+4-8.</mark>") == 1
    assert "email (16), ip address (3)" in page


def test_digest_does_not_depend_on_times(tmp_path: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        other = Store.open(tmp_path / name)
        digests.add(make(other, report_step(other, build_lifecycle(other, short_recipe()), {})).digest)
    assert len(digests) == 1


def test_what_the_gate_found_beside_the_corpus_is_shown_as_it_is_now(store: Store, result: LifecycleResult) -> None:
    """The same corpus, compared with another earlier version: what was found then bears no digest of the corpus."""

    def checked_again(folder: Path) -> dict[str, float]:
        copytree(result.corpus_valid.uri, folder, dirs_exist_ok=True, ignore=ignore_patterns("*.json"))
        for name in ("validation.json", "attachments/mixtures.json"):
            content = Path(result.corpus_valid.uri, name).read_text()
            (folder / name).write_text(content.replace("epochs are bounded", "has not drifted"))
        return {}

    identity = Identity("corpus_valid", "1", {"previous": "another"}, {})
    again = store.build(identity, checked_again)
    assert again.digest == result.corpus_valid.digest
    moved = replace(result, artifacts=result.artifacts | {"corpus_valid": again})
    shown = (
        store.fetch(make(store, report_step(store, moved, {"corpus_valid": identity}))) / "attachments" / "index.html"
    )
    assert "has not drifted" in shown.read_text() and "epochs are bounded" not in shown.read_text()


def test_a_gate_that_warned_is_flagged_with_what_to_do(page: str, store: Store, result: LifecycleResult) -> None:
    assert '<a href="#warnings">1</a>' in page and "<mark>1 of 3</mark>" in page
    assert "change its &lt;weight&gt;" in page and "source=&#39;chat&#39;, share=0.02, share_wanted=0.1" in page
    gone = {"tokens_checks": Identity("tokens_checks", "1", {}, {})}
    with pytest.raises(MissingArtifact, match=r"tokens_checks .* run the lifecycle again"):
        make(store, report_step(store, result, gone))


def test_missing_file_is_named(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    result = build_lifecycle(store, short_recipe(), drop="metrics.jsonl")
    with pytest.raises(MissingArtifact, match=r"has no file attachments/metrics\.jsonl"):
        make(store, report_step(store, result, {}))
    assert not list(Path(store.uri).glob("report/*"))


def test_a_recipe_that_asks_nothing_shows_no_empty_tables(store: Store, result: LifecycleResult) -> None:
    content = read_content(store, result, {})
    quiet = replace(
        content, scores=[row for row in content.scores if not row.is_accuracy], samples={name: [] for name in PHASES}
    )
    recipe = replace(result.recipe, gates=())
    page = render(replace(quiet, result=replace(result, recipe=recipe)))
    assert "No phase was asked anything" in page and 'id="headline"' not in page and 'id="samples"' not in page
    assert Page(page).unbalanced == []
