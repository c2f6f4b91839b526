"""Shares become documents, whatever the sizes of the sources; what cannot be drawn is said."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from k2model.recipe.schema import MixingConfig, MixtureEntry, PhaseConfig, Weigh
from k2model.tokens import MixtureError
from k2model.tokens.mixture import Source, check_short, draw, drawn_sources, short_context, short_share, sources_for
from tests.tokens.phases import PHASE

KNOWN = ["prose", "facts", "arithmetic/think", "retrieval/128"]
COUNTS = {"train": {name: {"domain": name.partition("/")[0]} for name in ("prose", "facts")}}


@dataclass(frozen=True)
class Stock:
    """Documents of given lengths; every second token is a target, unless said otherwise."""

    lengths: np.ndarray
    duplicates: np.ndarray
    targets: np.ndarray


def stock(lengths: list[int], duplicates: list[int] | None = None, targets: list[int] | None = None) -> Stock:
    found = np.array(lengths, dtype=np.int64)
    copies = np.array(duplicates or [1] * len(lengths), dtype=np.int32)
    return Stock(found, copies, found // 2 if targets is None else np.array(targets, dtype=np.int64))


def source(lengths: list[int], share: float = 1.0, name: str = "facts") -> Source:
    return Source(name, share, np.array(lengths, dtype=np.int64), natural=False)


def mixed(*entries: MixtureEntry, mixing: MixingConfig = MixingConfig(), steps: int = 1) -> PhaseConfig:
    """A phase of 1,000 tokens a step."""
    return replace(PHASE, mixture=entries, mixing=mixing, steps=steps, sequence_length=100, global_batch=10)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("arithmetic/thnk", 1)], r"mixture\.arithmetic/thnk: .* did you mean 'arithmetic/think'\?"),
        ([("zzz", 1)], "there are arithmetic/think, facts, prose, retrieval/128"),
        ([("prose", 1), ("prose", 2)], "named twice"),
        ([("prose", 0)], "no source has a positive weight"),
        ([], "it is empty"),
    ],
)
def test_unmet_mixtures_are_refused(entries: list[tuple[str, float]], message: str) -> None:
    with pytest.raises(MixtureError, match=message):
        drawn_sources(mixed(*(MixtureEntry(*entry) for entry in entries)), KNOWN)


def test_sources_without_an_amount_are_left_out() -> None:
    phase = mixed(MixtureEntry("prose", 3), MixtureEntry("retrieval/128"), MixtureEntry("facts", 1))
    assert drawn_sources(phase, KNOWN) == ["prose", "facts"]
    made = sources_for(phase, COUNTS, {"prose": stock([9] * 99), "facts": stock([9] * 99)}, 60)
    assert [(s.name, s.share, s.natural, s.domain) for s in made] == [
        ("prose", 0.75, True, "prose"),
        ("facts", 0.25, False, "facts"),
    ]


def test_too_many_epochs_are_refused_with_the_remedy() -> None:
    phase, have = (
        mixed(MixtureEntry("prose", 1), MixtureEntry("facts", 1)),
        {"prose": stock([500]), "facts": stock([100])},
    )
    assert len(sources_for(phase, COUNTS, have, max_epochs=5)) == 2
    with pytest.raises(MixtureError, match=r"facts: 50\.00% .* 5\.0 epochs of the 100 .* 1\.25 times the 4 allowed"):
        sources_for(phase, COUNTS, have, max_epochs=4)


def test_a_bucket_draws_only_documents_found_that_often() -> None:
    """Lengths tell the buckets apart; of 600 tokens in bucket 1 every document comes once, of 2-5 twice."""
    prose = stock([60] * 10 + [7] * 10 + [50] * 3, duplicates=[1] * 10 + [2, 3, 4, 5, 5] * 2 + [6, 900, 10**6])
    phase = mixed(
        MixtureEntry("prose", epochs=1, bucket="1-1"),
        MixtureEntry("prose", epochs=2, bucket="2-5"),
        MixtureEntry("facts", weight=1),
    )
    once, twice, rest = sources_for(phase, COUNTS, {"prose": prose, "facts": stock([10] * 26)}, 60)
    assert [s.name for s in (once, twice, rest)] == ["prose[1-1]", "prose[2-5]", "facts"]
    assert once.source == twice.source == "prose"
    assert (once.tokens, twice.tokens, rest.share) == (600, 70, pytest.approx(0.26))
    for scale in (0.9, 1.0, 1.1):  # what is pinned does not follow the packing's search for a scale
        drawn = draw(once, once.share * 1_000 * scale, seed=0)
        assert sorted(drawn.tolist()) == list(range(10))
        drawn = draw(twice, twice.share * 1_000 * scale, seed=0)
        assert np.bincount(drawn, minlength=23).tolist() == [0] * 10 + [2] * 10 + [0] * 3


def test_an_empty_bucket_is_an_error() -> None:
    phase = mixed(MixtureEntry("prose", 1, bucket="11-100"))
    with pytest.raises(MixtureError, match=r"prose\[11-100\]: the source holds no document of bucket 11-100"):
        sources_for(phase, COUNTS, {"prose": stock([10, 20], duplicates=[10, 101])}, 60)


def test_a_list_of_epochs_is_taken_in_proportion_and_never_beyond() -> None:
    """The list holds 3 x 200 + 1 x 600 = 1,200 tokens; a phase of 1,000 takes 5/6 of each."""
    have = {"prose": stock([2] * 100), "facts": stock([2] * 300)}
    phase = mixed(MixtureEntry("prose", epochs=3), MixtureEntry("facts", epochs=1))
    prose, facts = sources_for(phase, COUNTS, have, 60)
    assert (len(draw(prose, prose.share * 1_000, 0)), len(draw(facts, facts.share * 1_000, 0))) == (250, 250)
    assert set(np.bincount(draw(prose, prose.share * 1_000, 0)).tolist()) == {2, 3}
    assert np.bincount(draw(prose, 9_999, 0)).tolist() == [3] * 100
    assert sorted(draw(facts, 9_999, 0).tolist()) == list(range(300))


def test_fractions_count_targets_and_passes_repeat_the_same_documents() -> None:
    """Of 400 targets 3/4 are of documents with few targets: 100 of them at 3, and 50 of the others at 2."""
    have = {"prose": stock([20] * 200, targets=[3] * 200), "facts": stock([4] * 60, targets=[2] * 60)}
    mixing = MixingConfig(Weigh.TARGETS, target_tokens=400, passes=2)
    phase = mixed(MixtureEntry("prose", 0.75), MixtureEntry("facts", 0.25), mixing=mixing, steps=4)
    prose, facts = sources_for(phase, COUNTS, have, 60)
    scale = (2_000 + 200) * 2 / 4_000  # the list is a little longer than the phase
    for made, wanted in ((prose, 100), (facts, 50)):
        drawn = np.bincount(draw(made, made.share * 4_000 * scale, seed=17))
        assert set(drawn.tolist()) <= {0, 2} and (drawn > 0).sum() == wanted


def test_copies_of_a_source_without_targets_are_whole() -> None:
    have = {"prose": stock([20] * 200, targets=[3] * 200), "facts": stock([4, 6], targets=[0, 0])}
    phase = mixed(MixtureEntry("prose", 1), MixtureEntry("facts", copies=4), mixing=MixingConfig(Weigh.TARGETS))
    _, facts = sources_for(phase, COUNTS, have, 60)
    assert np.bincount(draw(facts, 1, seed=0)).tolist() == [4, 4]


def test_short_context_is_measured_by_documents() -> None:
    """Half of the phase is prose, of whose 1,000 tokens 100 are in short documents; facts are all short."""
    have = {"prose": stock([100, 900]), "facts": stock([10] * 100)}
    entries = (MixtureEntry("prose", 1), MixtureEntry("facts", 1))
    rule = MixingConfig(short_tokens=100, min_short=0.55)
    sources = sources_for(mixed(*entries, mixing=rule), COUNTS, have, 60)
    assert short_share([(s.share, s.lengths) for s in sources], 100) == pytest.approx(0.55)
    with pytest.raises(
        MixtureError, match=r"55\.00% of the tokens .* at most 100 tokens, 5\.00 points short of the 60%"
    ):
        sources_for(mixed(*entries, mixing=replace(rule, min_short=0.6)), COUNTS, have, 60)
    phase = mixed(*entries, mixing=rule)
    wanted = {"tokens": 100, "least": 0.55, "wanted": pytest.approx(0.55), "real": 0.56}
    assert short_context(phase, sources, 0.56) == wanted
    with pytest.raises(MixtureError, match=r"1\.00 points short"):
        short_context(phase, sources, 0.54)
    assert short_context(mixed(*entries), sources, 0.0) is None
    check_short(mixed(*entries), 0.0)


def test_every_document_is_seen_n_or_n_plus_one_times() -> None:
    lengths = [3, 5, 7, 11, 13, 2, 4]  # 45 tokens
    drawn = draw(source(lengths), tokens=45 * 3 + 20, seed=1)
    seen = np.bincount(drawn, minlength=7)
    assert set(seen.tolist()) == {3, 4}
    assert abs(np.array(lengths)[drawn].sum() - 155) <= 13 / 2
    epochs = [drawn[i * 7 : (i + 1) * 7].tolist() for i in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_a_whole_number_of_epochs_repeats_nothing_else() -> None:
    assert np.bincount(draw(source([2, 3, 5]), tokens=20, seed=0)).tolist() == [2, 2, 2]


def test_a_small_share_still_draws_a_document() -> None:
    assert len(draw(source([100, 100]), tokens=1, seed=0)) == 1


def test_order_depends_on_seed_and_source_alone() -> None:
    lengths = [1] * 50
    first = draw(source(lengths, name="facts"), 50, seed=0).tolist()
    assert first == draw(source(lengths, share=0.1, name="facts"), 50, seed=0).tolist()
    assert first != draw(source(lengths, name="facts"), 50, seed=1).tolist()
    assert first != draw(source(lengths, name="prose"), 50, seed=0).tolist()
