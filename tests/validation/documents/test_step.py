"""The step on a clean corpus: what is published, that it is reproducible, and that its pages need no network."""

import json
import re
from pathlib import Path

import pytest

from k2model.artifacts import Store, make
from k2model.recipe.schema import MixtureEntry, ValidationConfig
from k2model.validation.documents import ValidationFailed, valid_step
from k2model.validation.documents.suites import Bounds
from tests.validation.documents.conftest import MIXTURES, edit, validated
from tests.validation.gates import as_artifact

CONFIG = ValidationConfig(min_documents_per_source=50)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_clean_corpus_passes_unchanged(corpus: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    ref = make(store, valid_step(store, CONFIG, MIXTURES, as_artifact(store, "corpus", corpus)))
    assert ref.kind == "corpus_valid"
    assert (ref.stats["documents"], ref.stats["quarantined"], ref.stats["warnings"]) == (360, 0, 0)
    published = files(store.fetch(ref))
    assert {name: content for name, content in published.items() if name in files(corpus)} == files(corpus)
    assert not any(name.startswith("quarantine/") for name in published)
    report = json.loads(published["validation.json"])
    assert all(row["success"] for row in report["expectations"])
    assert {row["suite"] for row in report["expectations"]} == {
        "schema", "documents", "identifiers", "heldout", "items", "sources",
    }  # fmt: skip


def test_a_change_of_a_mixture_leaves_the_digest(corpus: Path, tmp_path: Path) -> None:
    """What follows depends on the digest, so a phase's mixture must not make all phases run again."""
    store = Store.open(tmp_path / "store")
    source = as_artifact(store, "corpus", corpus)
    one = make(store, valid_step(store, CONFIG, MIXTURES, source))
    other = make(store, valid_step(store, CONFIG, {"sft": (MixtureEntry("prose", 1.0),)}, source))
    assert one.identity != other.identity
    assert one.digest == other.digest


def test_a_failed_validation_leaves_no_artifact(corpus: Path, tmp_path: Path) -> None:
    edit(corpus, "prose", lambda rows: rows[3].update(source="code"))
    store = Store.open(tmp_path / "store")
    source = as_artifact(store, "corpus", corpus)
    with pytest.raises(ValidationFailed):
        make(store, valid_step(store, CONFIG, MIXTURES, source))
    assert store.records("corpus_valid") == []
    assert not list((tmp_path / "store" / "corpus_valid").rglob("manifest.json"))


def test_a_small_source_is_a_warning(corpus: Path, tmp_path: Path) -> None:
    out, stats = validated(corpus, tmp_path / "store", Bounds(ValidationConfig(min_documents_per_source=121)))
    assert stats["warnings"] == 1
    rows = json.loads((out / "validation.json").read_text())["expectations"]
    assert [row["observed"] for row in rows if row["expectation"] == "enough_documents"] == [3]


def test_pages_open_without_network_and_every_link_leads_somewhere(corpus: Path, tmp_path: Path) -> None:
    edit(corpus, "prose", lambda rows: rows[3].update(duplicates=0))
    out, _ = validated(corpus, tmp_path / "store", Bounds(CONFIG))
    site = out / "attachments" / "data_docs"
    pages = [*site.rglob("*.html"), out / "attachments" / "deck.html"]
    assert len(pages) == 1 + 7 + 1  # index, a page per suite, the deck
    for page in pages:
        content = page.read_text()
        assert not re.search(r"""(src|href)=["']?(https?:)?//""", content), page
        for link in re.findall(r'href="([^"#]+)"', content):
            assert (page.parent / link).exists(), (page, link)
    index = (site / "index.html").read_text()
    assert "duplicates_below_one" in index and "prose: 1" in index
