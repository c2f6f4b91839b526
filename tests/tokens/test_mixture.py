"""Shares become documents, whatever the sizes of the sources; what cannot be drawn is said."""

import numpy as np
import pytest

from k2model.recipe.schema import MixtureEntry
from k2model.tokens import MixtureError
from k2model.tokens.mixture import Source, check_epochs, draw, shares

KNOWN = ["prose", "facts", "arithmetic/think", "retrieval/128"]


def source(lengths: list[int], share: float = 1.0, name: str = "facts") -> Source:
    return Source(name, share, np.array(lengths, dtype=np.int64), natural=False)


def test_shares_are_relative_weights() -> None:
    entries = (MixtureEntry("prose", 3), MixtureEntry("facts", 1), MixtureEntry("retrieval/128", 0))
    assert shares(entries, KNOWN, "mid_1") == {"prose": 0.75, "facts": 0.25}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("arithmetic/thnk", 1)], r"phases\.sft\.mixture\.arithmetic/thnk: .* did you mean 'arithmetic/think'\?"),
        ([("zzz", 1)], "there are arithmetic/think, facts, prose, retrieval/128"),
        ([("prose", 1), ("prose", 2)], "named twice"),
        ([("prose", -1)], "must not be negative"),
        ([("prose", float("nan"))], "must not be negative"),
        ([("prose", 0)], "no source has a positive weight"),
    ],
)
def test_unmet_mixtures_are_refused(entries: list[tuple[str, float]], message: str) -> None:
    with pytest.raises(MixtureError, match=message):
        shares(tuple(MixtureEntry(*entry) for entry in entries), KNOWN, "sft")


def test_too_many_epochs_are_refused_with_the_remedy() -> None:
    small = source([10] * 10, share=0.5)  # 100 tokens
    check_epochs(small, tokens=800, max_epochs=4, phase="sft")
    with pytest.raises(
        MixtureError, match=r"50\.00% .* 500 tokens, 5\.0 epochs of the 100 .* 1\.25 times the 4 allowed"
    ) as e:
        check_epochs(small, tokens=1000, max_epochs=4, phase="sft")
    assert "at most 40.00%" in str(e.value)
    with pytest.raises(MixtureError, match="holds no tokens"):
        check_epochs(source([]), tokens=10, max_epochs=4, phase="sft")


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
