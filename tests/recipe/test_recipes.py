"""Every named recipe is complete, self-consistent and exactly typed."""

from dataclasses import MISSING, fields, is_dataclass, replace
from enum import Enum
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from k2model.recipe import RECIPES, Recipe, RecipeError, UnknownRecipe, load_recipe
from k2model.recipe.evaluation import AnswerCheck, BenchmarkConfig, Mode
from k2model.recipe.fields import identity_fields
from k2model.recipe.schema import GateConfig, MixtureEntry, SourceConfig
from k2model.recipe.tasks import score_names
from k2model.recipe.validate import hub_licence, validate_recipe


def exact_types(value: Any, expected: Any, path: str) -> list[str]:
    """Paths whose value is not exactly of the annotated type (an int in a float field would change
    a fingerprint when it comes back from a serializer as a float)."""
    if get_origin(expected) is tuple:
        return [bad for i, v in enumerate(value) for bad in exact_types(v, get_args(expected)[0], f"{path}[{i}]")]
    if get_origin(expected) is UnionType:
        return [] if value is None else exact_types(value, get_args(expected)[0], path)
    if is_dataclass(expected):
        hints = get_type_hints(expected)
        return [
            bad
            for f in fields(expected)
            for bad in exact_types(getattr(value, f.name), hints[f.name], f"{path}.{f.name}")
        ]
    if isinstance(expected, type) and issubclass(expected, Enum):
        return [] if isinstance(value, expected) else [path]
    return [] if type(value) is expected else [path]


@pytest.mark.parametrize("name", list(RECIPES))
def test_recipe_is_valid_and_exactly_typed(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert exact_types(recipe, type(recipe), name) == []


def test_k2_70b_reproduces_the_published_token_counts():
    phases = {phase.name: phase for phase in load_recipe("k2_70b").phases}
    assert phases["pretrain"].tokens == 12_288_000_000_000
    assert {phases[f"mid_{i}"].tokens_per_step for i in range(1, 5)} == {13_107_200}
    assert round(sum(phases[f"mid_{i}"].tokens for i in range(1, 5)) / 1e12, 3) == 2.720


def test_laptop_keeps_tokens_per_step_constant_and_grows_the_context():
    phases = load_recipe("laptop").phases
    assert {phase.tokens_per_step for phase in phases} == {2048}
    mid = [phase for phase in phases if phase.name.startswith("mid")]
    assert [p.sequence_length for p in mid] == sorted(p.sequence_length for p in mid)
    assert [p.rope_theta for p in mid] == sorted(p.rope_theta for p in mid)


@pytest.mark.parametrize(
    ("licence", "stated"),
    [
        ("apache-2.0", ("apache-2.0", "")),
        ("Apache-2.0", ("apache-2.0", "")),
        ("CC-BY-SA-4.0", ("cc-by-sa-4.0", "")),
        ("ODC-By-1.0", ("odc-by", "")),
        ("AGPL-3.0-only", ("agpl-3.0", "")),
        ("GPL-3.0-or-later", ("other", "gpl-3.0-or-later")),
        ("PSF-2.0", ("other", "psf-2.0")),
        ("other", ("other", "")),
        ("unknown", ("unknown", "")),
    ],
)
def test_a_licence_is_stated_as_the_hub_spells_it(licence, stated):
    assert load_recipe("smoke", {"licence": licence}).licence == licence and hub_licence(licence) == stated


def test_a_recipe_has_to_say_its_licence():
    (licence,) = (field for field in fields(Recipe) if field.name == "licence")
    assert licence.default is MISSING and licence.default_factory is MISSING
    assert {load_recipe(name).licence for name in RECIPES} == {"apache-2.0"}


def test_unknown_recipe_suggests_the_nearest():
    with pytest.raises(UnknownRecipe, match="did you mean 'laptop'"):
        load_recipe("laptp")


EXAM = BenchmarkConfig("exam", "exam.jsonl", licence="CC0-1.0")


def validated(**changes: Any) -> Recipe:
    """The smoke recipe with other gates or another evaluation, checked."""
    recipe = load_recipe("smoke")
    evaluation = replace(recipe.evaluation, **{k: v for k, v in changes.items() if k != "gates"})
    validate_recipe(changed := replace(recipe, evaluation=evaluation, gates=tuple(changes.get("gates", ()))))
    return changed


def test_a_benchmark_is_left_out_of_identity_where_there_is_none_and_is_gateable_where_it_is_asked() -> None:
    recipe = load_recipe("smoke")
    assert "benchmarks" not in [field.name for field in identity_fields(recipe.evaluation)]
    gates = [GateConfig("sft", "exam", 0.5, minus="spelling/high"), GateConfig("mid_2", "retrieval/256@new_theta", 0.1)]
    made = validated(benchmarks=(EXAM,), gates=gates)
    assert "benchmarks" in [field.name for field in identity_fields(made.evaluation)]
    assert "exam" in score_names(made, made.phases[0])
    scheduled = validated(matrix_schedule="0 */6 * * *", matrix_tasks=("k2_base",)).evaluation
    assert identity_fields(scheduled) == identity_fields(recipe.evaluation)
    validated(benchmarks=(replace(EXAM, chance=0.25),), gates=[GateConfig("sft", "exam", 0.1, minus="chance")])
    validated(gates=[GateConfig("pretrain", "code/next_line", 0.1, minus="chance"), GateConfig("sft", "loss/chat", 0)])


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        (GateConfig("stf", "exam", 0.5), "gates.stf: no such phase; did you mean 'sft'"),
        (
            GateConfig("sft", "exma", 0.5),
            "gates.sft.score='exma': the phase is not scored on that; did you mean 'exam'",
        ),
        (GateConfig("pretrain", "arithmetic/high", 0.5), "gates.pretrain.score='arithmetic/high': the phase is not"),
        (GateConfig("sft", "arithmetic/think", 0.5), "gates.sft.score='arithmetic/think'"),
        (GateConfig("sft", "loss/poems", 0.5), "gates.sft.score='loss/poems'.*loss/prose"),
        (GateConfig("sft", "retrieval/512", 0.5), "did you mean 'retrieval/128'"),
        (GateConfig("mid_1", "retrieval/128@new_theta", 0.5), "retrieval/128@new_theta"),  # theta is its parent's
        (GateConfig("sft", "exam", 0.5, minus="exam/low"), "gates.sft.minus='exam/low'"),
        (GateConfig("sft", "exam", 0.5, minus="chance"), "'exam' has no chance level"),
        (GateConfig("pretrain", "talk", 0.5), "gates.pretrain.score='talk'"),  # a chat is asked after fine-tuning alone
    ],
)
def test_a_gate_on_a_score_that_its_phase_has_not_is_refused(gate: GateConfig, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        validated(benchmarks=(EXAM, replace(EXAM, name="talk", mode=Mode.LOW)), gates=[gate])


@pytest.mark.parametrize("score", ["essay", "essay/pass@2"])
def test_a_judge_whose_agreement_nobody_measured_decides_no_gate(score: str) -> None:
    judged = replace(
        EXAM, name="essay", check=AnswerCheck.JUDGE, judge="http://127.0.0.1:9/v1#judge", repeats=2, temperature=1.0
    )
    validated(benchmarks=(judged,))  # it is scored all the same
    with pytest.raises(RecipeError, match=rf"gates\.sft\.score='{score}' is judged by a language model"):
        validated(benchmarks=(judged,), gates=[GateConfig("sft", score, 0.5)])


def test_safety_tests_of_a_kind_without_a_phase_are_refused() -> None:
    gone: dict[str, Any] = {"phases.sft": None, "gates.sft": None}
    with pytest.raises(RecipeError, match=r"safety.kinds names 'sft', but no phase is of that kind.*safety.kinds=\[\]"):
        load_recipe("smoke", gone)
    assert load_recipe("smoke", gone | {"safety.kinds": [], "continual.tuned": ""}).safety_tested == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "My Exam"}, "a benchmark is named 'My Exam'; expected lower-case letters"),
        ({"name": "facts"}, "evaluation.benchmarks.facts: 'facts' means something else in scores"),
        ({"name": "law/high"}, "evaluation.benchmarks.law/high: 'high' means something else"),
        ({"location": ""}, "exam.location is empty; set it to a JSONL or Parquet file"),
        ({"location": "https://u:p@host/x.jsonl"}, r"exam.location='.*' holds a user, password"),
        ({"licence": ""}, "exam.licence is empty; set it to an SPDX id"),
        ({"template": "Q: {question}"}, "has no {prompt}, where the item's prompt goes"),
        ({"check": AnswerCheck.REGEX}, "exam.pattern is empty; check=regex needs one"),
        ({"check": AnswerCheck.REGEX, "pattern": "("}, "is no regular expression of Python's"),
        ({"pattern": "x"}, "exam.pattern has no effect with check=exact"),
        ({"examples": "dev.jsonl"}, "exam.examples has no effect with shots=0"),
        ({"check": AnswerCheck.CHOICE, "chance": 0.25}, "chance is derived from the number of choices"),
        ({"max_new_tokens": 0}, "exam.max_new_tokens=0 must be at least 1"),
        ({"chance": 1.0}, "chance=1.0 must be a share"),
        ({"temperature": -1.0}, "temperature=-1.0 must be a number from 0 on"),
        ({"temperature": float("nan")}, "temperature=nan must be a number from 0 on"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p=0.0 must be a share above 0"),
        ({"repeats": 4}, "repeats=4 has no effect with temperature=0"),
    ],
)
def test_a_benchmark_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        validated(benchmarks=(replace(EXAM, **changes),))
    with pytest.raises(RecipeError, match=r"evaluation.benchmarks.exam stands there twice"):
        validated(benchmarks=(EXAM, EXAM))


def test_families_without_items_are_told_before_anything_runs() -> None:
    recipe = load_recipe("smoke")
    sources = tuple(source for source in recipe.corpus.sources if not source.name.startswith("retrieval/"))
    read = SourceConfig("web", location="x", context=256, domain="prose", licence="CC0-1.0")
    phases = tuple(replace(phase, mixture=(MixtureEntry("prose", 1.0),)) for phase in recipe.phases)
    lacking = replace(recipe, corpus=replace(recipe.corpus, sources=(*sources, read)), phases=phases)
    with pytest.raises(RecipeError, match=r"names retrieval.*no items of it; there is no source retrieval/\.\.\."):
        validate_recipe(lacking)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.n_heads": 4, "model.n_kv_heads": 3}, "multiple of model.n_kv_heads=3"),
        ({"phases.mid_1.parent": "mid_2"}, "must be an earlier phase"),
        ({"name": "team/mine"}, "the recipe is named 'team/mine'; expected up to 100 letters"),
        ({"phases.sft.name": "../sft"}, r"a phase is named '\.\./sft'; expected lower-case letters"),
        ({"phases.sft.name": "mid-4"}, "it names a task, a folder of the release and an alias"),
        ({"phases.sft.steps": 0}, r"phases.sft.steps=0 must be at least 1"),
        ({"phases.sft.optimizer.lr": 0}, r"phases.sft.optimizer.lr=0.0 must be positive"),
        ({"phases.sft.optimizer.lr": float("inf")}, "must be positive and finite"),
        ({"phases.sft.optimizer.weight_decay": float("nan")}, "must be a number"),
        ({"model.n_layers": 0}, "model.n_layers=0 must be at least 1"),
        ({"tokenizer.vocab_size": 100}, "must be at least 280"),
        ({"evaluation.batch_size": 0}, "evaluation.batch_size=0 must be at least 1"),
        ({"evaluation.matrix_schedule": "at night"}, "evaluation.matrix_schedule='at night' has 2 fields"),
        ({"evaluation.matrix_tasks": ["k2_base"]}, "evaluation.matrix_tasks has no effect"),
        ({"evaluation.items_per_family": 500}, "exceeds the corpus.heldout_items=160"),
        ({"phases.mid_4.sequence_length": 2048}, "no corpus source has context 2048"),
        ({"phases.sft.mixture.prose.source": "poems"}, "the corpus has no such source"),
        ({"phases.mid_4.parallelism.workers_per_node": 3}, "must be a multiple of the 3 data-parallel workers"),
        ({"tokenizer.vocab_size": 4096}, "exceeds model.vocab_size=1024"),
        ({"licence": ""}, "'laptop': licence is empty; give the weights one SPDX id"),
        ({"licence": "mit\ntags: [x]"}, "is no licence id"),
        ({"licence": "Apache-2.0 AND MIT"}, "is no licence id"),
        ({"licence": "mit "}, "is no licence id"),
    ],
)
def test_contradictions_are_refused_by_name(overrides, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("laptop", overrides)
