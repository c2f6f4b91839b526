"""K2's own lists give K2's own numbers; a list that cannot be drawn says by how much."""

import csv
from dataclasses import replace
from importlib import resources

import pytest

from k2model.recipe import RecipeError, load_recipe
from k2model.recipe.mixture_problems import entries_problem, mixture_problem
from k2model.recipe.mixtures import BUCKETS, Available, bucket_range, known_sizes, plan_mixture
from k2model.recipe.schema import MixingConfig, MixtureEntry, PhaseConfig, Weigh

K2 = load_recipe("k2_70b")
PHASE = replace(
    load_recipe("laptop").phase("sft"), name="sft", sequence_length=100, global_batch=10, steps=10
)  # 10,000

#: Families of the pre-training list as published: raw and weighted billions of tokens, share in percent.
FAMILIES = {
    "TxT360 CC, prox drop": (3767.3, 3767.3, 30.17),
    "TxT360 CC, prox keep": (902.3, 3398.2, 27.21),
    "TxT360-QA": (1224.2, 1976.8, 15.83),
    "opencoder": (886.9, 886.9, 7.10),
    "opencoder FIM": (816.1, 816.1, 6.54),
    "papers": (174.0, 550.8, 4.41),
    "AraV6 Arabic": (267.0, 267.0, 2.14),
    "megamath": (238.4, 238.4, 1.91),
    "math_datasets": (40.7, 122.0, 0.98),
    "wikipedia": (37.3, 112.2, 0.90),
    "wikipedia_extended": (109.5, 109.5, 0.88),
    "opencoder topo-sorted": (72.6, 72.6, 0.58),
    "stackexchange": (20.1, 60.7, 0.49),
    "freelaw": (16.6, 58.2, 0.47),
    "uspto": (4.7, 14.1, 0.11),
    "dm_maths": (4.4, 13.2, 0.11),
    "pg19": (2.5, 9.9, 0.08),
    "ubuntu_irc": (2.0, 6.1, 0.05),
    "europarl": (2.5, 5.1, 0.04),
    "hackernews": (1.0, 2.9, 0.02),
}


def rows(file: str) -> list[dict[str, str]]:
    text = resources.files("k2model.recipe").joinpath("k2_data", file).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def mixed(*entries: MixtureEntry, mixing: MixingConfig = MixingConfig(), steps: int = 10) -> PhaseConfig:
    return replace(PHASE, mixture=entries, mixing=mixing, steps=steps)


def stock(**tokens: int) -> dict[tuple[str, str], Available]:
    return {(name, ""): Available(size, size // 2) for name, size in tokens.items()}


def test_the_pretraining_list_gives_the_published_shares_and_totals() -> None:
    plan = plan_mixture(K2.phase("pretrain"), known_sizes(K2))
    listed = rows("pretrain_mixture.csv")
    assert len(plan.portions) == len(listed) == 51
    for portion, row in zip(plan.portions, listed, strict=True):
        assert (portion.entry.listed_as or portion.entry.source) == row["source"]
        assert portion.tokens == int(row["tokens"]) * float(row["epochs"])
        assert 100 * portion.share == pytest.approx(float(row["share_percent"]), abs=5.1e-7)
    assert (plan.raw, plan.weighted) == (8_589_943_056_143, 12_487_839_822_990)
    assert plan.consumed == pytest.approx(12_288_000_000_000 / 12_487_839_822_990) == pytest.approx(0.984, abs=1e-4)


def test_its_families_are_those_of_the_published_table() -> None:
    plan = plan_mixture(K2.phase("pretrain"), known_sizes(K2))
    family = {(fact.source, fact.bucket): fact.family for fact in K2.facts}
    assert set(family.values()) == set(FAMILIES)
    for name, (raw, weighted, share) in FAMILIES.items():
        own = [p for p in plan.portions if family[p.entry.source, p.entry.bucket] == name]
        assert sum(p.available.tokens for p in own) / 1e9 == pytest.approx(raw, abs=0.051)
        assert sum(p.tokens for p in own) / 1e9 == pytest.approx(weighted, abs=0.051)
        assert 100 * sum(p.share for p in own) == pytest.approx(share, abs=0.0051)


def test_buckets_are_read_from_the_names_of_the_list() -> None:
    entries = {entry.listed_as: (entry.name, entry.epochs) for entry in K2.phase("pretrain").mixture}
    assert entries["prox_txt360_keep_2-5"] == ("prox_txt360_keep[2-5]", 4)
    assert entries["prox_txt360_keep_1001-30000000"] == ("prox_txt360_keep[1001+]", 6)
    assert entries["papers_others"] == ("papers[2+]", 5)
    assert entries["prox_txt360_drop_1-1_chunk3"] == ("prox_txt360_drop/chunk3[1-1]", 1)
    assert entries["AraV6_others"] == ("AraV6", 1)


def test_the_30_weights_of_mid_1_share_out_its_tokens() -> None:
    plan = plan_mixture(K2.phase("mid_1"), known_sizes(K2))
    assert len(plan.portions) == 30
    assert sum(p.entry.weight for p in plan.portions) == pytest.approx(100, abs=1e-6)
    tokens = {p.entry.source: p.tokens / 1e9 for p in plan.portions}
    published = {"weborganizer-sample-2-17": 495.9, "math": 424.5, "institutional-books-1.0": 177.0, "general": 7.1}
    assert {name: round(tokens[name], 1) for name in published} == published
    assert sum(tokens.values()) == pytest.approx(1769.472)


def test_the_sft_list_has_fractions_that_sum_to_one_and_copies() -> None:
    phase = K2.phase("sft")
    assert (len(phase.mixture), phase.seed, phase.mixing.passes) == (45, 17, 3)
    efforts = {effort: 0.0 for effort in ("high", "medium", "low")}
    for entry, row in zip(phase.mixture, rows("sft_mixture.csv"), strict=True):
        weight = float(row["weight"])
        assert (entry.weight, entry.copies) == ((weight, 0) if weight > 0 else (0.0, -weight))
        assert entry.source.rpartition("/")[2] == row["reasoning_effort"]
        efforts[row["reasoning_effort"]] += entry.weight
    assert {effort: round(total, 9) for effort, total in efforts.items()} == {"high": 0.4, "medium": 0.38, "low": 0.22}


def test_fractions_are_of_target_tokens_and_copies_come_on_top() -> None:
    """By hand: 1,000 targets; of `a` every 2nd token is a target, of `b` every 5th; `c` comes twice beside them."""
    entries = (MixtureEntry("a", 0.6), MixtureEntry("b", 0.4), MixtureEntry("c", copies=2), MixtureEntry("d"))
    mixing = MixingConfig(Weigh.TARGETS, target_tokens=1_000, passes=3)
    have = {("a", ""): Available(8_000, 4_000), ("b", ""): Available(500, 100), ("c", ""): Available(40, 0)}
    phase = mixed(*entries, mixing=mixing)  # 10,000 tokens in three passes
    plan = plan_mixture(phase, have)
    assert [(p.entry.source, p.tokens, p.epochs) for p in plan.portions] == [
        ("a", 1_200.0, 0.15), ("b", 2_000.0, 4.0), ("c", 80.0, 2.0),
    ]  # fmt: skip
    rest = 10_000 / 3 - 80
    shares = [1_200 / 3_200 * rest, 2_000 / 3_200 * rest, 80.0]
    assert [p.share * 10_000 / 3 for p in plan.portions] == pytest.approx(shares)
    assert plan.weighted == 3_280 and plan.consumed == pytest.approx(10_000 / 3 / 3_280)
    assert mixture_problem(plan, max_epochs=13) is None  # b: 4.07 epochs in each of three passes
    assert "b: " in mixture_problem(plan, max_epochs=12)


def test_weights_share_what_epochs_and_copies_leave() -> None:
    entries = (MixtureEntry("a", epochs=1.5), MixtureEntry("b", copies=2), MixtureEntry("c", 3), MixtureEntry("d", 1))
    plan = plan_mixture(mixed(*entries), stock(a=2_000, b=500, c=50_000, d=50_000))
    assert [p.tokens for p in plan.portions] == [3_000, 1_000, 4_500, 1_500]
    assert [p.share for p in plan.portions] == pytest.approx([0.3, 0.1, 0.45, 0.15])
    assert [p.pinned for p in plan.portions] == [True, True, False, False]


def test_what_is_not_known_stays_unknown() -> None:
    plan = plan_mixture(mixed(MixtureEntry("a", 3), MixtureEntry("b", 1)), stock(a=10))
    assert [(p.tokens, p.epochs) for p in plan.portions] == [(7_500, 750), (2_500, None)]
    assert plan.raw is None and plan.weighted == 10_000
    pinned = plan_mixture(mixed(MixtureEntry("a", 3), MixtureEntry("b", copies=1)), stock(a=10))
    assert [(p.tokens, p.share, p.fraction) for p in pinned.portions] == [(None, None, 1.0), (None, None, None)]
    targets = mixed(MixtureEntry("a", 0.5), MixtureEntry("b", 0.5), mixing=MixingConfig(Weigh.TARGETS))
    assert [p.share for p in plan_mixture(targets, stock(a=10)).portions] == [None, None]


@pytest.mark.parametrize(
    ("phase", "have", "message"),
    [
        (
            mixed(MixtureEntry("a", epochs=2), MixtureEntry("b", epochs=1)), {"a": 4_000, "b": 1_500},
            r"sft\.mixture: the list holds 9,500 tokens, 500 \(5\.00%\) fewer than the 10,000 the phase trains on; "
            r"raise epochs or lower steps to at most 9",
        ),
        (
            mixed(MixtureEntry("a", copies=3), MixtureEntry("b", 1)), {"a": 4_000, "b": 9_000},
            r"hold 12,000 tokens, 2,000 more than the 10,000 .* raise steps to at least 13",
        ),
        (
            mixed(MixtureEntry("a", copies=4), MixtureEntry("b", 1), mixing=MixingConfig(passes=4)),
            {"a": 100, "b": 9_000}, r"mixture\.a: .* 16\.0 epochs of the 100 there are and 1\.33 times the 12 allowed; "
            r"lower its copies to at most 3 or",
        ),
        (
            mixed(MixtureEntry("a", copies=4), MixtureEntry("b", 1), mixing=MixingConfig(passes=4)), {},
            r"mixture\.a: 16 epochs over 4 passes and 1\.33 times the 12 allowed",
        ),
        (
            mixed(MixtureEntry("a", epochs=13, bucket="1001+"), MixtureEntry("b", 1)), {},
            r"mixture\.a\[1001\+\]: 13 epochs and 1\.08 times the 12 allowed; lower its epochs to at most 12",
        ),
        (
            mixed(MixtureEntry("a", 1), MixtureEntry("b", 1)), {"a": 250, "b": 9_000},
            r"mixture\.a: 50\.00% of the phase is 5,000 tokens, 20\.0 epochs of the 250 there are and 1\.67 times the "
            r"12 allowed; lower its weight to at most 30\.00%",
        ),
        (mixed(MixtureEntry("a", 1)), {"a": 0}, r"mixture\.a: the source holds no tokens"),
        (
            mixed(MixtureEntry("a", 1.0), mixing=MixingConfig(Weigh.TARGETS, target_tokens=4_000)), {"a": 20_000},
            r"the list holds 8,000 tokens, 2,000 \(20\.00%\) fewer .* raise mixing\.target_tokens or lower steps to at "
            r"most 8",
        ),
    ],
)  # fmt: skip
def test_a_list_that_cannot_be_met_says_by_how_much(phase: PhaseConfig, have: dict[str, int], message: str) -> None:
    problem = mixture_problem(plan_mixture(phase, stock(**have)), max_epochs=12)
    with pytest.raises(RecipeError, match=message):
        raise RecipeError(problem)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([MixtureEntry("a", 1), MixtureEntry("a", 2)], "a: named twice"),
        ([MixtureEntry("a", 1, bucket="2+"), MixtureEntry("a", 2, bucket="2-5")], r"a\[2\+\] and a\[2-5\] share"),
        ([MixtureEntry("a", 1), MixtureEntry("a", 2, bucket="2-5")], r"a and a\[2-5\] share documents"),
        ([MixtureEntry("a", 1, epochs=2)], r"a: weight=1 and epochs=2; give one of them"),
        ([MixtureEntry("a", -1)], "weight=-1 must be a number and must not be negative"),
        ([MixtureEntry("a", float("nan"))], "weight=nan must be a number"),
        ([MixtureEntry("a", 1, bucket="2-6")], "'2-6' is no bucket of duplicate counts; did you mean '2-5'"),
        ([MixtureEntry("a")], "no source has a positive weight, epochs or copies"),
    ],
)
def test_contradicting_entries_are_refused(entries: list[MixtureEntry], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        raise RecipeError(entries_problem(mixed(*entries)))


def test_fractions_of_targets_must_sum_to_one() -> None:
    off = mixed(MixtureEntry("a", 0.6), MixtureEntry("b", 0.3), mixing=MixingConfig(Weigh.TARGETS))
    assert "sum to 0.900000" in entries_problem(off) and "+0.100000" in entries_problem(off)
    assert entries_problem(replace(off, mixing=MixingConfig())) is None


def test_buckets_are_runs_of_k2s() -> None:
    assert [bucket_range(bucket) for bucket in BUCKETS[:3]] == [(1, 1), (2, 5), (6, 10)]
    assert bucket_range("1001+")[0] == 1001 and bucket_range("2+") == (2, bucket_range("")[1])
    assert bucket_range("2-100") == (2, 100)
    for wrong in ("1", "3-5", "5-2", "2+5", "2-5+", "+", "-", "many", "1-1 "):
        with pytest.raises(ValueError, match="is no bucket"):
            bucket_range(wrong)


@pytest.mark.parametrize(
    ("recipe", "overrides", "message"),
    [
        ("k2_70b", {"phases.pretrain.steps": 1_280_000}, r"the list holds 12,487,839,822,990 tokens, 95,\d+,\d+,\d+ "),
        (
            "k2_70b",
            {"phases.sft.mixture.self-identity/high.copies": 5},
            "15 epochs over 3 passes and 1.25 times the 12",
        ),
        ("k2_70b", {"phases.sft.mixture.code-v1/high.weight": 0.2}, r"the weights sum to 1\.06"),
        ("laptop", {"phases.mid_4.mixing.short_tokens": 0}, "mid-training keeps 30% short-context data"),
        ("laptop", {"phases.mid_4.mixing.min_short": 1.5}, "from 0 to 1"),
        ("laptop", {"phases.sft.mixing.passes": 0}, "must be at least 1"),
        (
            "laptop",
            {"phases.mid_4.mixture.retrieval/1024.weight": 500},
            r"mid_4.* at most 1\d\.\d\d% .* short of the 30%",
        ),
    ],
)
def test_recipes_are_checked_when_they_are_resolved(recipe: str, overrides: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe, overrides)


def test_every_mid_stage_keeps_to_the_length_of_pretraining_as_short() -> None:
    for recipe in (K2, load_recipe("laptop"), load_recipe("smoke")):
        for phase in recipe.phases:
            if phase.name.startswith("mid"):
                assert phase.mixing.short_tokens == recipe.phase("pretrain").sequence_length
                assert phase.mixing.min_short == 0.3
