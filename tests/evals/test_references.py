"""Every way to name a model leads to the same weights, and what names none is told."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts import ArtifactRef, CorruptArtifact, Identity, MissingArtifact, Store, make
from k2model.artifacts.files import LocalFiles
from k2model.artifacts.manifest import describe_file
from k2model.errors import EvaluationError
from k2model.evals import scores_step
from k2model.evals.cells import Cell, Opened, make_cell, results_of
from k2model.evals.choice import Questions
from k2model.evals.compare import compare
from k2model.evals.matrix import checkpoints_of, chosen_checkpoints, entries
from k2model.evals.references import Known, subject_of
from k2model.evals.step import measure_together
from k2model.recipe.evaluation import BenchmarkConfig
from k2model.recipe.laptop import smoke
from k2model.recipe.schema import CheckpointConfig, PhaseKind
from k2model.training.checkpoint import ALL, MODEL, Piece, Progress, ShardImage, publish, step_folder, write_file
from tests.evals.backends.server import Served, serving
from tests.evals.conftest import CONFIG, LENGTH, World
from tests.evals.conftest import MODEL as SIZE
from tests.evals.test_step import inputs

SCORE = "arithmetic/think"


def write_checkpoint(files: LocalFiles, world: World, step: int) -> None:
    tensors = world.model.state_dict(prefix=MODEL)
    pieces = [Piece(name, tuple(t.shape), ALL, 0, t.reshape(-1)) for name, t in tensors.items()]
    image = ShardImage(pieces)
    image.fill(pieces)
    folder = step_folder(step)
    entry = write_file(files, f"{folder}/rank-00000-of-00001.safetensors", image.data)
    publish(files, folder, [entry], Progress("mid_1", step, step, 1, 1, "", ""))


@pytest.fixture
def known(world: World, put: Callable[..., ArtifactRef], tmp_path: Path) -> tuple[Store, Known]:
    """A recipe of one phase that has been trained and exported, which keeps a checkpoint of step 2."""
    store = Store.open(tmp_path / "store")
    refs = inputs(store, world, put)
    kept = CheckpointConfig(save_every=1, keep_every=2)
    phase = replace(world.phase, name="mid_1", parent="", kind=PhaseKind.MIDTRAIN, steps=3, checkpoints=kept)
    recipe = replace(smoke(), model=SIZE, phases=(phase,), evaluation=CONFIG)
    training = LocalFiles(tmp_path / "training")
    write_checkpoint(training, world, 2)
    made = {"corpus_valid": refs["corpus"], "tokens": refs["tokens"], "tokenizer": refs["tokenizer"]}
    made["mid_1/export"] = refs["export"]
    planned = made | {"mid_1/checkpoint": ArtifactRef("checkpoint", training.uri, "pending", "0" * 64, {})}
    return store, Known(recipe, made, planned)


def value(store: Store, known: Known, reference: str, backend: str = "own") -> float:
    subject = subject_of(reference, store, known, backend)
    (measure,) = Questions(known, store, (SCORE,)).of(subject, reference)
    return make_cell(store, Cell(subject, measure), Opened()).stats[SCORE]


def test_all_names_of_a_model_lead_to_its_scores(known: tuple[Store, Known], world: World) -> None:
    store, facts = known
    export = facts.made["mid_1/export"]
    for reference in ("mid_1", "mid_1@2", export.name, export.digest[:12], str(world.export)):
        assert value(store, facts, reference) == 0.75, reference
    assert len(store.records("score")) == 4  # the export by its name and by its digest are one


def test_transformers_gives_the_same_scores(known: tuple[Store, Known], world: World) -> None:
    store, facts = known
    for reference in ("mid_1", str(world.export)):
        assert value(store, facts, reference, "transformers") == 0.75


def test_a_server_is_asked_by_its_address_and_the_name_it_answers_in(known: tuple[Store, Known], world: World) -> None:
    store, facts = known
    with serving(Served(world.backend)) as server:
        assert value(store, facts, f"{server.url}#tiny") == 0.75
        with pytest.raises(EvaluationError, match=r"names no model; expected .*#MODEL"):
            subject_of(server.url, store, facts)
        with pytest.raises(EvaluationError, match="has no model 'other'"):
            subject_of(f"{server.url}#other", store, facts)


def test_what_a_phase_has_measured_is_found_by_its_reference(known: tuple[Store, Known]) -> None:
    store, facts = known
    inputs = {name: facts.made[key] for name, key in (("corpus", "corpus_valid"), ("tokens", "tokens"))}
    inputs |= {"tokenizer": facts.made["tokenizer"], "export": facts.made["mid_1/export"]}
    make(store, scores_step(store, CONFIG, facts.recipe.phases[0], **inputs, lengths=(LENGTH,)))
    before = store.records("score")
    found, _ = entries(store, Questions(facts, store), chosen_checkpoints(facts, ["mid_1"]))
    assert all(entry.ref for entry in found) and len(found) == len(before)


def test_the_matrix_shows_checkpoints_in_order_and_fills_what_is_missing_alone(known: tuple[Store, Known]) -> None:
    store, facts = known
    checkpoints = checkpoints_of(facts)
    per_step = facts.recipe.phases[0].tokens_per_step
    assert [(one.reference, one.tokens, one.last) for one in checkpoints] == [
        ("mid_1@2", 2 * per_step, False), ("mid_1", 3 * per_step, True),
    ]  # fmt: skip
    questions = Questions(facts, store, ("arithmetic", "loss/prose"))
    found, _ = entries(store, questions, checkpoints)
    assert [entry.ref for entry in found] == [None] * 6
    measure_together(store, [found[0].cell])
    found, _ = entries(store, questions, checkpoints)
    assert [bool(entry.rows) for entry in found] == [True] + [False] * 5
    assert (found[0].rows[0].phase, found[0].rows[0].score) == ("mid_1", "loss/prose")
    with pytest.raises(EvaluationError, match=r"nothing is asked 'arithmatic'; did you mean 'arithmetic/"):
        Questions(facts, store, ("arithmatic",))
    with pytest.raises(EvaluationError, match="no checkpoint 'mid_1@3' of smoke; did you mean 'mid_1@2'"):
        chosen_checkpoints(facts, ["mid_1@3"])


def test_a_damaged_checkpoint_hides_no_other_from_the_matrix(known: tuple[Store, Known], tmp_path: Path) -> None:
    store, facts = known
    questions, checkpoints = Questions(facts, store, ("loss/prose",)), checkpoints_of(facts)
    (manifest,) = (tmp_path / "training").rglob("manifest.json")
    manifest.write_text("{}")
    found, (failed,) = entries(store, questions, checkpoints)
    assert [entry.checkpoint.reference for entry in found] == ["mid_1"]
    assert (failed.model, failed.kind) == ("mid_1@2", "CorruptArtifact") and str(manifest) in failed.message


def test_few_items_are_a_cell_of_their_own(known: tuple[Store, Known]) -> None:
    store, facts = known
    subject = subject_of("mid_1", store, facts)
    (few,) = Questions(facts, store, (SCORE,), limit=2).of(subject, "mid_1")
    ref = make_cell(store, Cell(subject, few), Opened())
    assert len(results_of(store, ref)) == 2 and value(store, facts, "mid_1") == 0.75


def test_a_damaged_checkpoint_is_refused_by_name(known: tuple[Store, Known], tmp_path: Path) -> None:
    store, facts = known
    shard = next((tmp_path / "training").rglob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CorruptArtifact, match=r"rank-00000-of-00001\.safetensors"):
        value(store, facts, "mid_1@2")
    assert not store.records("score")


def test_a_folder_that_is_not_as_it_lists_is_refused_by_name(
    known: tuple[Store, Known], world: World, tmp_path: Path
) -> None:
    store, facts = known
    release = tmp_path / "release"
    shutil.copytree(world.export, release / "model")
    listed = [describe_file(release, f"model/{one.name}") for one in (release / "model").iterdir() if one.is_file()]
    (release / "RELEASE_MANIFEST.json").write_text(json.dumps({"files": [asdict(one) for one in listed]}))
    assert value(store, facts, str(release)) == 0.75
    weights = next((release / "model").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(content)
    with pytest.raises(CorruptArtifact, match=r"model/model.*\.safetensors"):
        value(store, facts, str(release))


def test_what_names_no_model_is_told(known: tuple[Store, Known]) -> None:
    store, facts = known
    with pytest.raises(EvaluationError, match=r"'mid_2' names no model: .*did you mean 'mid_1'"):
        subject_of("mid_2", store, facts)
    with pytest.raises(EvaluationError, match="mid_1 has no checkpoint of step 9, of those kept it has steps 2"):
        subject_of("mid_1@9", store, facts)
    without = replace(facts, made={name: ref for name, ref in facts.made.items() if name != "mid_1/export"})
    with pytest.raises(MissingArtifact, match="mid_1/export of recipe smoke is not in the store yet"):
        subject_of("mid_1", store, without)


def test_two_models_are_compared_item_by_item(known: tuple[Store, Known]) -> None:
    store, facts = known
    subject = subject_of("mid_1", store, facts)

    def asked(**changes: Any) -> list[Any]:
        config = replace(facts.recipe, evaluation=replace(CONFIG, **changes))
        (measure,) = Questions(replace(facts, recipe=config), store, (SCORE,)).of(subject, "mid_1")
        return results_of(store, make_cell(store, Cell(subject, measure), Opened()))

    whole, half = asked(), asked(items_per_family=2)
    (found,) = compare(half, whole)
    assert (found.score, found.result.n, found.only_first, found.only_second) == (SCORE, 2, 0, 2)
    assert (found.result.difference, found.result.p) == (0.0, 1.0)
    other = [replace(one, wanted="another") for one in half]
    with pytest.raises(EvaluationError, match=f"{SCORE}: item .* wants '3' of the one and 'another' of the other"):
        compare(half, other)
    with pytest.raises(EvaluationError, match="the two share no score: one has arithmetic/think, the other x"):
        compare(half, [replace(one, score="x") for one in half])


def test_what_needs_no_corpus_is_asked_by_name_of_any_model(known: tuple[Store, Known], world: World) -> None:
    store, facts = known
    bare = replace(facts, made={})
    names = ("knights_2", "needle_entries/80", "needle_entries/96")
    folder = str(world.export)
    measures = Questions(bare, store, names, limit=2).of(subject_of(folder, store, bare), folder)
    efforts = ["think", "low", "medium", "high"]  # nobody knows whether it is a chat model
    assert {one.name for one in measures} == {*(f"knights_2/{one}" for one in efforts), *names[1:]}
    phase = Questions(facts, store, names, limit=2).of(subject_of("mid_1", store, facts), "mid_1")
    assert {one.name: one for one in phase}.keys() == {"knights_2/think", *names[1:]}
    needle = next(one for one in phase if one.name == "needle_entries/96")
    cell = Cell(subject_of("mid_1", store, facts), needle)
    results = results_of(store, make_cell(store, cell, Opened()))
    assert {one.score for one in results} == {"needle_entries/96"} and len(results) == 2
    with pytest.raises(EvaluationError, match=r"nothing is asked 'knight_2'; did you mean 'knights_2/"):
        Questions(bare, store, ("knight_2",))


def test_a_server_is_asked_all_but_losses_and_that_is_told(known: tuple[Store, Known], world: World) -> None:
    store, facts = known
    with serving(Served(world.backend)) as served:
        reference = f"{served.url}#tiny"
        questions = Questions(facts, store)
        measures = questions.of(subject_of(reference, store, facts), reference)
    assert measures and not [one.name for one in measures if one.name.startswith("loss/")]
    assert "no documents in K2's markup" in questions.absent["loss"]


def test_a_limit_asks_no_more_than_a_benchmark_does(known: tuple[Store, Known]) -> None:
    store, facts = known
    own = tuple(BenchmarkConfig(f"exam_{most}", "x.jsonl", limit=most, licence="MIT") for most in (0, 3, 9))
    limited = Questions(facts, store, (), own, limit=5).config.benchmarks
    assert [one.limit for one in limited] == [5, 3, 5]


def test_a_beginning_that_several_exports_have_is_refused(known: tuple[Store, Known]) -> None:
    store, facts = known
    export = facts.made["mid_1/export"]
    assert subject_of("export/", store, facts).inputs["export"] == export  # there is one alone

    def produce(folder: Path) -> dict[str, float]:
        (folder / "config.json").write_text('{"max_position_embeddings": 8}')
        return {}

    other = store.build(Identity("export", "another", {}), produce)
    with pytest.raises(EvaluationError, match=r"'export/' names several exports, export/\w+, export/\w+; give more"):
        subject_of("export/", store, facts)
    assert subject_of(other.name, store, facts).inputs["export"] == other


def test_a_task_with_the_name_of_another_of_the_recipe_is_refused(known: tuple[Store, Known]) -> None:
    store, facts = known
    exam = BenchmarkConfig("exam", "x.jsonl", licence="MIT")
    recipe = replace(facts.recipe, evaluation=replace(CONFIG, benchmarks=(exam,)))
    ours = replace(facts, recipe=recipe)
    assert Questions(ours, store, (), (exam,)).config.benchmarks == (exam,)
    with pytest.raises(EvaluationError, match="recipe smoke has another benchmark 'exam'"):
        Questions(ours, store, (), (replace(exam, shots=1),))
