"""The tree of a mixture adds up at every level, and says what it rests on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from k2model.artifacts import ArtifactRef
from k2model.lifecycle.mixtures import Node, SourceSizes, describe, source_sizes
from k2model.recipe import load_recipe
from k2model.recipe.schema import LongDocuments, MixingConfig, MixtureEntry, Recipe
from k2model.tokens import open_shard

K2 = load_recipe("k2_70b")


def leaves(nodes: tuple[Node, ...]) -> list[Node]:
    return [leaf for node in nodes for leaf in (leaves(node.children) or [node])]


def check_sums(node: Node) -> None:
    if not node.children:
        return
    for field in ("tokens", "weighted", "share"):
        parts = [getattr(child, field) for child in node.children]
        if None not in parts:
            assert getattr(node, field) == pytest.approx(sum(parts))
    for child in node.children:
        check_sums(child)


def test_k2s_list_is_grouped_by_family_source_and_bucket(tmp_path: Path) -> None:
    pretrain = describe(K2, source_sizes(K2, str(tmp_path / "none")), ["pretrain"])[0]
    assert (pretrain.entries, len(pretrain.families), pretrain.raw) == (51, 20, 8_589_943_056_143)
    assert pretrain.basis.startswith("public token counts") and pretrain.consumed == pytest.approx(0.984, abs=1e-4)
    for family in pretrain.families:
        check_sums(family)
    keep = next(node for node in pretrain.families if node.name.endswith("prox keep"))
    assert keep.epochs == pytest.approx(3398.2 / 902.3, abs=1e-3)
    (source,) = keep.children
    assert [child.name.split(" ")[1] for child in source.children] == [
        "1-1", "2-5", "6-10", "11-100", "101-1000", "1001+",
    ]  # fmt: skip
    assert source.children[1].listed_as == "prox_txt360_keep_2-5" and source.children[1].declared == "4 epochs"
    assert not (tmp_path / "none").exists(), "looking makes no store"


def test_what_is_not_public_is_said(tmp_path: Path) -> None:
    found = {one.phase: one for one in describe(K2, source_sizes(K2, str(tmp_path)))}
    assert found["mid_1"].basis.startswith("shares alone") and found["mid_1"].weighted == pytest.approx(1.769472e12)
    assert found["mid_3"].families == () and found["mid_3"].basis == "the recipe gives no mixture"
    assert "phases.mid_3.mixture" in found["mid_3"].notes[0] and found["pretrain"].notes == ()
    for name in ("mid_1", "mid_2", "mid_3", "mid_4"):
        assert (found[name].short, found[name].short_tokens, found[name].least_short) == (None, 8_192, 0.3)
    sft = found["sft"]
    assert (sft.share_of, sft.passes, sft.weighted) == ("the weights' target tokens", 3, None)
    assert any("target_tokens" in note for note in sft.notes)
    shares = {leaf.name: leaf.share for leaf in leaves(sft.families)}
    assert shares["code-v1/high"] == pytest.approx(0.14) and shares["self-identity/high"] is None
    assert {leaf.declared for leaf in leaves(sft.families) if leaf.name.startswith("self-identity/")} == {"4 copies"}


@pytest.fixture
def small(looked: dict[str, ArtifactRef]) -> tuple[Recipe, SourceSizes]:
    """One mid stage over the shards of the small store."""
    mixture = (MixtureEntry("prose", 3, bucket="1-1"), MixtureEntry("facts", copies=2), MixtureEntry("chat/tools", 1))
    phase = replace(
        load_recipe("laptop").phase("mid_1"),
        mixture=mixture,
        steps=4,
        mixing=MixingConfig(short_tokens=60, min_short=0.25),
    )
    names = [entry.source for entry in mixture]
    shards = {name: open_shard(Path(looked["tokens"].uri), "train", name) for name in names}
    families = {name: shard for name, shard in zip(names, ("prose", "knowledge", "tools"), strict=True)}
    return replace(load_recipe("laptop"), phases=(phase,)), SourceSizes("here", {}, families, shards)


def test_shards_give_sizes_buckets_and_short_documents(small: tuple[Recipe, SourceSizes]) -> None:
    recipe, stock = small
    (found,) = describe(recipe, stock)
    lengths = {name: shard.lengths for name, shard in stock.documents.items()}
    sizes = {leaf.name: leaf.tokens for leaf in leaves(found.families)}
    assert sizes == {"prose 1-1": lengths["prose"].sum(), "facts": lengths["facts"].sum(),
                     "chat/tools": lengths["chat/tools"].sum()}  # fmt: skip
    assert [family.name for family in found.families] == ["prose 1-1", "knowledge", "tools"]
    left = 4 * 2048 - 2 * sizes["facts"]
    wanted = {"prose 1-1": left * 3 / 4, "facts": 2 * sizes["facts"], "chat/tools": left / 4}
    assert {leaf.name: leaf.weighted for leaf in leaves(found.families)} == pytest.approx(wanted)
    short = sum(
        wanted[leaf] / 8192 * own[own <= 60].sum() / own.sum()
        for leaf, own in zip(wanted, lengths.values(), strict=True)
    )
    assert found.short == pytest.approx(short) and found.short_basis == "of the documents to draw from"
    assert found.problem == ""


def test_documents_that_a_phase_skips_are_no_stock(small: tuple[Recipe, SourceSizes]) -> None:
    recipe, stock = small
    lengths = stock.documents["prose"].lengths
    row = int(np.quantile(lengths, 0.5))
    phase = replace(recipe.phases[0], sequence_length=row, global_batch=256, mixture=(MixtureEntry("prose", 1),))
    sizes = []
    for long_documents in (LongDocuments.SPLIT, LongDocuments.SKIP):
        (found,) = describe(replace(recipe, phases=(replace(phase, long_documents=long_documents),)), stock)
        sizes += [leaf.tokens for leaf in leaves(found.families)]
    assert sizes == [lengths.sum(), lengths[lengths <= row].sum()] and sizes[0] > sizes[1] > 0


def test_problems_stand_beside_the_tree(small: tuple[Recipe, SourceSizes]) -> None:
    recipe, stock = small
    strict = replace(recipe.phases[0], mixing=MixingConfig(short_tokens=20, min_short=0.9))
    assert "points short of the 90%" in describe(replace(recipe, phases=(strict,)), stock)[0].problem
    often = replace(recipe, validation=replace(recipe.validation, max_epochs=1.0))
    assert "2.00 times the 1 allowed" in describe(often, stock)[0].problem
