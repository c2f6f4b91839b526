"""What a release holds, and that others can use it without this project."""

import csv
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from k2model import settings
from k2model.artifacts import ArtifactRef, Identity, Step, Store, hash_file, make
from k2model.artifacts.result import LifecycleResult
from k2model.errors import visible
from k2model.evals.scores import load_scores
from k2model.recipe.schema import AdoptedModel
from k2model.registry.markdown import as_cell
from k2model.release import release_step, verify_release
from k2model.release.bundle import UNPUBLISHED, lineage, published_origin
from k2model.release.card import model_card
from tests.release.conftest import tiny_lifecycle
from tests.reporting.lifecycle_fixture import CURATION, PHASES, score_rows

JSON = (
    "recipe/recipe.json", "data/composition.json", "data/curation.json", "data/validation.json", "data/sources.json",
    "evaluation/scores.json", "lineage.json", "attachments/provenance.json",
)  # fmt: skip


def test_holds_what_it_says(bundle: Path) -> None:
    for name in (*JSON, "MODEL_CARD.md", "README.md", "evaluation/scores.csv", "RELEASE_MANIFEST.json"):
        assert (bundle / name).is_file(), name
    for phase in PHASES:
        assert (bundle / f"checkpoints/{phase}/model.safetensors").is_file()
        assert (bundle / f"data/composition-{phase}.csv").is_file()
        samples = (bundle / f"attachments/samples/{phase}.jsonl").read_text().splitlines()
        assert {json.loads(line)["grade"] for line in samples} == {"right", "wrong"}
        lines = (bundle / f"attachments/training/{phase}.jsonl").read_text().splitlines()
        left_out = {8, 9, 10} if phase == "mid_2" else set()
        assert [json.loads(line)["step"] for line in lines] == [step for step in range(20) if step not in left_out]
    assert not list(bundle.glob("model/manifest.json")) and not list(bundle.glob("model/artifact.json"))


def test_model_is_the_last_phase_and_phases_differ(bundle: Path) -> None:
    hashes = {phase: hash_file(bundle / f"checkpoints/{phase}/model.safetensors") for phase in PHASES}
    assert len(set(hashes.values())) == len(PHASES)
    assert hash_file(bundle / "model/model.safetensors") == hashes["sft"]


@pytest.mark.parametrize("folder", ["model", "checkpoints/mid_1"])
def test_transformers_loads_and_generates(bundle: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bundle / folder)
    model = AutoModelForCausalLM.from_pretrained(bundle / folder)
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": "rivers"}],
        reasoning_effort="low",
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    written = model.generate(**inputs, max_new_tokens=3, min_new_tokens=3)
    assert written.shape[1] == inputs["input_ids"].shape[1] + 3
    assert tokenizer.decode(inputs["input_ids"][0]).endswith("assistant\n<think_faster>")


def test_scores_are_the_measured_ones(bundle: Path) -> None:
    expected = [row for phase in PHASES for row in score_rows(phase)]
    written = json.loads((bundle / "evaluation/scores.json").read_text())
    assert [{name: row[name] for name in own} for row, own in zip(written, expected, strict=True)] == expected
    beside = {row["score"]: row["overlap"] for row in written}
    assert (beside["arithmetic/think"], beside["spelling/think"], beside["loss/prose"]) == (0.0, 1.0, None)
    rows = list(csv.DictReader((bundle / "evaluation/scores.csv").open()))
    assert [float(row["value"]) for row in rows] == [row["value"] for row in expected]


def test_recipe_is_complete_with_hardware_fields(bundle: Path, result: LifecycleResult) -> None:
    recipe = json.loads((bundle / "recipe/recipe.json").read_text())
    assert [phase["name"] for phase in recipe["phases"]] == list(PHASES)
    assert recipe["phases"][0]["optimizer"]["name"] == "muon"
    assert recipe["phases"][0]["parallelism"]["workers_per_node"] == 2
    assert recipe["model"]["hidden_size"] == 16 and recipe["unknown"] == list(result.recipe.unknown)


def test_data_is_accounted_for(bundle: Path, result: LifecycleResult) -> None:
    assert json.loads((bundle / "data/curation.json").read_text()) == CURATION
    sources = json.loads((bundle / "data/sources.json").read_text())
    prose = next(row for row in sources if row["source"] == "prose")
    assert prose == {
        "split": "train", "source": "prose", "domain": "prose", "licence": "CC0-1.0",
        "origin": "made by k2model.documents", "documents": 3, "characters": 3 * len("document 0"),
    }  # fmt: skip
    assert len(sources) == len(result.recipe.corpus.sources)
    rows = list(csv.DictReader((bundle / "data/composition-mid_1.csv").open()))
    weights = {row["source"]: float(row["share_wanted"]) for row in rows}
    assert weights["arithmetic/think"] == pytest.approx(0.28)


def test_lineage_leads_from_the_model_to_the_corpus(bundle: Path) -> None:
    entries = json.loads((bundle / "lineage.json").read_text())["artifacts"]
    by_digest = {(entry["step"], entry["digest"]): entry for entry in entries}
    entry = next(one for one in entries if one["name"] == "sft/export")
    seen = []
    while "checkpoint" in entry["inputs"] or "parent" in entry["inputs"]:
        source = entry["inputs"].get("checkpoint") or entry["inputs"]["parent"]
        entry = by_digest[source["kind"], source["digest"]]
        seen.append(entry["name"])
    assert seen == [f"{phase}/checkpoint" for phase in reversed(PHASES)]
    assert {one["step"] for one in entries} >= {"corpus_raw", "corpus", "corpus_valid", "tokenizer", "tokens"}


def test_card_states_the_numbers(bundle: Path) -> None:
    card = (bundle / "MODEL_CARD.md").read_text()
    row = next(r for r in score_rows("mid_4") if r["score"] == "countdown/think")
    line = next(line for line in card.splitlines() if line.startswith("| countdown/think |"))
    assert line.split(" | ")[5] == f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
    assert "{{" not in card and "None" not in card
    # embedding and head, then per layer: q and o, k and v, gate, up and down, two norms; and the last norm
    parameters = 2 * 274 * 16 + 2 * (2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24 + 2 * 16) + 16
    assert f"with {parameters:,} parameters" in card


def test_card_and_files_state_the_longest_context_and_a_trained_effort(bundle: Path) -> None:
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "The context is 1,024 tokens" in card and "those of the last phase had 128" in card
    assert 'reasoning_effort="medium",  # or "low"\n    add_generation_prompt=True,' in card
    assert "low (410), medium (1,203)" in card
    for folder, length in (("model", 1024), ("checkpoints/mid_2", 256)):
        assert json.loads((bundle / folder / "config.json").read_text())["max_position_embeddings"] == length
        assert json.loads((bundle / folder / "tokenizer_config.json").read_text())["model_max_length"] == length
    assert '{"low": "think_faster", "medium": "think_fast"}' in (bundle / "model/chat_template.jinja").read_text()


def front_matter(card: str) -> dict:
    return ModelCard(card, ignore_metadata_errors=False).data.to_dict()


def test_card_has_the_licence_of_the_recipe_and_no_markup_of_documents(store: Store, result: LifecycleResult) -> None:
    rows = load_scores(store, [one.scores for one in result.phases])
    row = {"split": "train", "source": "a|b", "documents": 7, "licence": "MIT | ![x](http://e)\n---\n<script>"}
    origins = [row, row | {"licence": "unknown", "documents": 3}]
    for licence, stated in (
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("1.0", {"license": "other", "license_name": "1.0"}),
    ):
        granted = replace(result, recipe=replace(result.recipe, licence=licence))
        card = model_card(granted, rows, origins, {}, {"low": 5})
        assert {name: value for name, value in front_matter(card).items() if name.startswith("license")} == stated
        assert f"Weights: {licence}, as the recipe grants it" in card and "Apache" not in card
    assert r"| MIT \| \!\[x\](http\://e) --- \<script\> |" in card and r"a\|b" in card
    assert "The licence of 3 training documents" in card
    assert 'reasoning_effort="low",\n    add' in card


@pytest.mark.parametrize(
    "text",
    [
        "MIT | <script>alert(1)</script> <img src=x onerror=y>", "[a](javascript:b) ![i](http://e) <http://e>",
        "**b** __i__ ~~s~~ `c` ``d`` $x^2$ \\(y\\)", "https://e.example/x www.e.example me@e.example ftp://e",
        "&lt;b&gt; &#x202e; &nbsp;",
        "a \u202e b \x1b[31m \u200b c\x07", "[^1] [ref]: x # h > q - l 1. n", "\\| \\\\| \\",
    ],
)  # fmt: skip
def test_text_from_elsewhere_is_read_in_the_card_as_it_stands(text: str, store: Store, result: LifecycleResult) -> None:
    from markdown_it import MarkdownIt

    rows = load_scores(store, [one.scores for one in result.phases])
    row = {"split": "train", "source": text, "documents": 7, "licence": "unknown"}
    granted = replace(result, recipe=replace(result.recipe, licence=text))
    card = model_card(granted, rows, [row, row | {"licence": text}], {}, {"low": 5})
    assert front_matter(card)["license"] == "other"
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(card.split("\n---\n", 1)[1])
    parts = [token.children or [] for token in tokens if token.type == "inline"]
    lines = ["".join(part.content for part in those) for those in parts]
    shown = visible(text)
    assert lines.count(shown) == 3, "two sources and a licence, each in a cell of its own"
    assert any(line.startswith(f"Weights: {shown}, as the recipe") for line in lines)
    assert any(line.endswith(f"documents ({shown}) is not known.") for line in lines)
    kinds = {part.type for those in parts for part in those}
    assert kinds <= {"text", "text_special", "softbreak", "code_inline"} and "html_block" not in {
        t.type for t in tokens
    }


@pytest.mark.parametrize("address", ["https://e.example/x", "www.e.example", "HTTP://e", "me@e.example"])
def test_an_address_in_a_text_from_elsewhere_becomes_no_link(address: str) -> None:
    assert address not in as_cell(f"see {address}, there") and address in as_cell(address).replace("\\", "")


def test_names_no_place_and_no_command_of_the_machine(bundle: Path, store: Store) -> None:
    provenance = json.loads((bundle / "attachments/provenance.json").read_text())
    assert all({"git", "packages", "started"} <= set(one) for one in provenance.values())
    assert not any({"argv", "host"} & set(one) for one in provenance.values())
    ours = {store.uri, str(Path.home()), tempfile.gettempdir(), str(Path.cwd()), str(settings.home()), *sys.argv[1:]}
    texts = [path for path in bundle.rglob("*") if path.is_file() and path.suffix != ".safetensors"]
    texts = [path for path in texts if path.relative_to(bundle).as_posix() not in ("artifact.json", "manifest.json")]
    assert not [(path, place) for path in texts for place in ours if len(place) > 4 and place in path.read_text()]


@pytest.mark.parametrize(
    ("source", "location", "told"),
    [
        ("", "/home/me/models/x", UNPUBLISHED), ("", "models/x", UNPUBLISHED), ("", "file:///data/x", UNPUBLISHED),
        ("/home/me/x", "s3://bucket/x", UNPUBLISHED), ("~/x", "x", UNPUBLISHED), ("C:\\x", "x", UNPUBLISHED),
        ("", "s3://bucket/x", "s3://bucket/x"), ("LLM360/K2-V2", "/data/x", "LLM360/K2-V2"),
        ("https://me:CANARY@host/x", "/data/x", "https://***@host/x"),
    ],
)  # fmt: skip
def test_says_where_a_model_is_published_and_not_where_it_lay(source: str, location: str, told: str) -> None:
    assert published_origin(AdoptedModel("theirs", "mit", 1e4, 8, location, source)) == told


def test_card_of_a_model_without_chat_asks_without_it(store: Store, result: LifecycleResult) -> None:
    rows = load_scores(store, [one.scores for one in result.phases])
    base = replace(result, recipe=replace(result.recipe, phases=result.recipe.phases[:-1]))
    for lifecycle, efforts in ((base, {"high": 4}), (result, {})):
        card = model_card(lifecycle, rows, [], {}, efforts)
        assert "chat_template" not in card and 'tokenizer("...", return_tensors="pt")' in card


def test_card_tells_what_was_undone(bundle: Path) -> None:
    section = (bundle / "MODEL_CARD.md").read_text().split("## Interventions\n")[1].split("\n## ")[0]
    [line] = [line for line in section.splitlines() if line.startswith("| mid_2 |")]
    reason = "the losses of 3 steps in a row lay more than 8 robust deviations above the median"
    assert line == f"| mid_2 | 8–10 | 4 | 1.840 | 6.520 | 1.860 | {reason} |"
    assert sum(line.startswith("| ") for line in section.splitlines()) == 2, "a header and one row"


def test_card_says_so_when_nothing_was_undone(store: Store, result: LifecycleResult) -> None:
    calm = {phase: [] for phase in PHASES}
    rows = load_scores(store, [one.scores for one in result.phases])
    section = model_card(result, rows, [], calm).split("## Interventions\n")[1].split("\n## ")[0]
    assert section.strip() == "None: every step of every phase was taken once and stands."


def test_a_second_store_gives_the_same_release(
    store: Store, result: LifecycleResult, tokenizer_folder: Path, tmp_path: Path
) -> None:
    other = Store.open(tmp_path)
    again = make(other, release_step(other, tiny_lifecycle(other, tokenizer_folder)))
    assert again.digest == make(store, release_step(store, result)).digest


def test_safety_scores_are_part_of_it_with_their_judge(bundle: Path) -> None:
    told = json.loads((bundle / "evaluation" / "safety-sft.json").read_text())
    rows = {row["score"]: row for row in told["rows"]}
    assert told["judge"]["name"] == "rules" and rows["safety/correct_refusal"]["value"] == 1.0
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "## Safety" in card and "| unsafe requests refused | 0.00 [" in card
    assert "kappa" in card and "base rate" in card


LINE = {
    "line/ledger/00000001.json": b'{"number": 1}\n',
    "line/turns.json": b'{"champion": 1, "turns": [{"turn": 1, "kickoff": "2026-11-02T02:00:00+00:00", "from": 0, '
    b'"batches": ["puzzles|of"], "trained_tokens": 21504, "annealed": false, '
    b'"verdict": "no worse, better on loss/chat@new"}]}\n',
}


def test_a_model_that_went_on_after_its_lifecycle_says_how(store: Store, result: LifecycleResult, bundle: Path) -> None:
    made = make(store, release_step(store, result, LINE))
    folder = store.fetch(made)
    for path, content in LINE.items():
        assert (folder / path).read_bytes() == content
    assert verify_release(folder).files == verify_release(bundle).files + 2
    card = (folder / "MODEL_CARD.md").read_text()
    said = "puzzles\\|of | 21,504 | no worse, better on loss/chat\\@new |"
    row = f"| 1 | 2026-11-02T02:00:00+00:00 | the lifecycle's | {said}"
    assert row in card and "line/ " in (folder / "README.md").read_text()
    assert "## Turns" not in (bundle / "MODEL_CARD.md").read_text() and not (bundle / "line").exists()
    other = release_step(store, result, LINE | {"line/ledger/00000001.json": b'{"number": 2}\n'})
    assert (
        len({one.identity.key for one in (other, release_step(store, result, LINE), release_step(store, result))}) == 3
    )


def test_artifacts_of_one_kind_between_two_steps_are_all_in_the_lineage(
    store: Store, result: LifecycleResult, bundle: Path
) -> None:
    """Two corpora were cleaned for one that is released: each is listed under a name of its own."""

    def cleaned(of: str) -> ArtifactRef:
        def produce(folder: Path) -> dict[str, float]:
            (folder / "text").write_text(of)
            return {}

        return make(store, Step(Identity("corpus_clean", "1", {"of": of}, {}), produce))

    joined = Identity("joined", "1", {}, {"one": cleaned("one"), "two": cleaned("two")})
    more = make(store, Step(joined, lambda folder: {}))
    wider = LifecycleResult(result.recipe, {**result.artifacts, "more": more})
    told = lineage(store, wider, {name: store.record(ref) for name, ref in wider.artifacts.items()})
    names = [entry["name"] for entry in told["artifacts"]]
    assert len({*names}) == len(names)
    listed = {(entry["step"], entry["digest"]) for entry in told["artifacts"]}
    for entry in told["artifacts"]:
        assert {(one["kind"], one["digest"]) for one in entry["inputs"].values()} <= listed
    alone = {entry["name"] for entry in json.loads((bundle / "lineage.json").read_text())["artifacts"]}
    assert not [name for name in alone if name.startswith("corpus_clean/")], "one alone is named by its kind"
