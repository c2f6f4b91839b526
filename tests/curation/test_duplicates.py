"""Copies planted at known similarities over parts, sources and splits: what is found, and what is counted."""

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k2model.artifacts import Store, make
from k2model.curation import clean_step, duplicates, signatures
from k2model.curation.texts import Texts
from k2model.documents.markup import plain
from k2model.documents.schema import make_document, part_path, parts_of, read_documents
from k2model.recipe.curation import GENERATED, CurationProfile
from k2model.recipe.mixtures import bucket
from k2model.recipe.schema import CorpusConfig, SourceConfig
from tests.curation.chain import compare, curate_folder
from tests.curation.planted import distinct_words, edited, write_raw
from tests.validation.gates import as_artifact

ANYTHING = CurationProfile("anything", ("*",), overlap=False)
CONFIG = CorpusConfig(sources=(SourceConfig("books"), SourceConfig("web")), profiles=(ANYTHING,))
WORDS, SHINGLE = 400, 5


def document(source, text, origin):
    return make_document(source, "prose", "CC0-1.0", origin, plain(text))


def shingle_set(words, width=SHINGLE):
    return {tuple(words[i : i + width]) for i in range(len(words) - width + 1)}


def jaccard(one, other, width=SHINGLE):
    a, b = shingle_set(one, width), shingle_set(other, width)
    return len(a & b) / len(a | b)


def kept_in(folder, source, split="train"):
    return [d for path in parts_of(folder, split, source) for d in read_documents(path)]


def curate_parts(tmp_path, parts, config=CONFIG, workers=1):
    raw, folder = tmp_path / "raw", tmp_path / f"curated{workers}"
    folder.mkdir(parents=True)
    write_raw(raw, parts)
    curate_folder(raw, folder, config, workers)
    return folder


def changes_for(similarity):
    """Edits far apart that bring two texts to about this Jaccard index: each breaks `SHINGLE` shingles of both."""
    shingles = WORDS - SHINGLE + 1
    return round(shingles * (1 - similarity) / (1 + similarity) / SHINGLE)


def test_recall_and_precision_on_planted_near_duplicates(tmp_path, record_property):
    """For every similarity 60 pairs: the original in one source, its copy in another, over three parts each."""
    rng, per_rate = Random(11), 60
    parts, truth = {("train", s, p): [] for s in ("books", "web") for p in range(3)}, {}
    for rate in (0.95, 0.9, 0.85, 0.7, 0.5):
        for number in range(per_rate):
            words = distinct_words(rng, WORDS)
            copy = edited(rng, words, changes_for(rate))
            name = f"{rate} {number}"
            truth[name] = (rate, jaccard(words, copy))
            parts["train", "books", number % 3].append(document("books", " ".join(words), name))
            parts["train", "web", rng.randrange(3)].append(document("web", " ".join(copy), name))
    folder = curate_parts(tmp_path, parts)
    stays = {d["origin"] for d in kept_in(folder, "web")}
    assert len(kept_in(folder, "books")) == len(truth)  # the first source's document always stays
    found = {
        rate: np.mean([name not in stays for name, (r, _) in truth.items() if r == rate]) for rate, _ in truth.values()
    }
    for rate, (low, high) in {0.95: (1, 1), 0.9: (0.97, 1), 0.85: (0.85, 1), 0.7: (0, 0.05), 0.5: (0, 0)}.items():
        exact = [similarity for r, similarity in truth.values() if r == rate]
        assert abs(np.mean(exact) - rate) < 0.02
        assert low <= found[rate] <= high, (rate, found)
        record_property(f"found at {rate}", float(found[rate]))
    above = [name for name, (_, similarity) in truth.items() if similarity >= CONFIG.near_duplicate_threshold]
    dropped = truth.keys() - stays
    assert np.mean([name in dropped for name in above]) >= 0.95  # recall
    assert np.mean([truth[name][1] >= CONFIG.near_duplicate_threshold for name in dropped]) >= 0.97  # precision


def test_copies_over_parts_sources_and_splits_are_counted_on_the_first(tmp_path):
    rng = Random(5)
    popular, leaked, once = (distinct_words(rng, WORDS) for _ in range(3))
    near = [edited(rng, popular, 3) for _ in range(7)]
    parts = {
        ("heldout", "web", 0): [document("web", " ".join(leaked), "held")],
        ("train", "books", 0): [
            document("books", " ".join(leaked), "copy of held"),
            document("books", " ".join(once), "once"),
        ],
        ("train", "web", 0): [document("web", " ".join(near[0]), "near 0")],
        ("train", "books", 1): [document("books", " ".join(popular), f"exact {i}") for i in range(4)],
        ("train", "web", 1): [document("web", " ".join(words), f"near {i}") for i, words in enumerate(near[1:], 1)],
        ("train", "web", 2): [{**document("web", " ".join(popular), "crawled"), "duplicates": 20}],
    }
    parts["train", "web", 2].append(document("web", " ".join(distinct_words(rng, WORDS)), "other"))
    folder = curate_parts(tmp_path, parts)
    assert {d["origin"]: d["duplicates"] for d in kept_in(folder, "books")} == {"once": 1, "exact 0": 4 + 7 + 20}
    assert {d["origin"]: d["duplicates"] for d in kept_in(folder, "web")} == {"other": 1}
    assert [(d["origin"], d["duplicates"]) for d in kept_in(folder, "web", "heldout")] == [("held", 2)]
    account = json.loads((folder / "curation.json").read_text())
    assert account["duplicates"]["books"] == {"1-1": 1, "2-5": 0, "6-10": 0, "11-100": 1, "101-1000": 0, "1001+": 0}
    assert account["train"]["web"]["rejects"]["exact_duplicate"]["documents"] == 1
    assert account["train"]["web"]["rejects"]["near_duplicate"]["documents"] == 7


def test_a_chain_of_small_differences_is_no_cluster(tmp_path):
    """Each link is similar to the one before; what stays is similar to no earlier one that stays."""
    rng, chain = Random(2), [distinct_words(Random(1), WORDS)]
    for link in range(1, 12):
        words = list(chain[-1])
        for place in range(link * 30, link * 30 + 30, 7):
            words[place] = f"changed{rng.randrange(1_000_000)}"
        chain.append(words)
    assert jaccard(chain[0], chain[1]) > 0.87 and jaccard(chain[0], chain[-1]) < 0.4
    parts = {("train", "books", 0): [document("books", " ".join(words), str(i)) for i, words in enumerate(chain)],
             ("train", "web", 0): [document("web", "only one here", "w")]}  # fmt: skip
    kept = [int(d["origin"]) for d in kept_in(curate_parts(tmp_path, parts), "books")]
    assert 3 <= len(kept) <= 8 and kept[0] == 0
    for one, other in combinations(kept, 2):
        assert jaccard(chain[one], chain[other]) < 0.8 + 0.1
    for gone in set(range(12)) - set(kept):
        assert max(jaccard(chain[gone], chain[stays]) for stays in kept if stays < gone) > 0.8 - 0.1


def test_near_copies_are_looked_for_in_natural_text_alone(tmp_path):
    rng = Random(4)
    words = distinct_words(rng, WORDS)
    whole, near, nearer = (" ".join(each) for each in (words, edited(rng, words, 2), edited(rng, words, 1)))
    texts = {"books": [whole, near, whole], "web": [whole, nearer, whole]}
    parts = {("train", s, 0): [document(s, text, str(i)) for i, text in enumerate(texts[s])] for s in texts}
    config = replace(CONFIG, profiles=(replace(GENERATED, sources=("web",)), replace(ANYTHING, sources=("books",))))
    folder = curate_parts(tmp_path, parts, config)
    assert [d["duplicates"] for d in kept_in(folder, "books")] == [5]  # with the exact copies in the other source
    assert [d["origin"] for d in kept_in(folder, "web")] == ["1"]


def look_alikes(folder, seed, words, bases, edits, parts):
    """A store with a cleaned source, of which each of `bases` texts stands twice and `edits` are near copies of one."""
    rng = Random(seed)
    originals = [distinct_words(rng, words) for _ in range(bases)]
    texts = [" ".join(edited(rng, rng.choice(originals), 1)) for _ in range(edits)]
    texts += [" ".join(each) for each in originals * 2]
    documents = [document("books", text, str(i)) for i, text in enumerate(texts)]
    write_raw(folder / "raw", {("train", "books", part): documents[part::parts] for part in range(parts)})
    store = Store.open(folder / "store")
    return store, make(store, clean_step(store, CONFIG, as_artifact(store, "corpus_raw", folder / "raw")))


def test_pairs_are_those_of_a_search_and_any_slices_decide_the_same(tmp_path):
    store, clean = look_alikes(tmp_path, seed=9, words=80, bases=30, edits=200, parts=3)
    slices, pairs, decided = [], [], []
    for slice_rows in (1_000_000, 1_000, 100):  # 260 documents of 14 bands
        decided.append(compare(store, CONFIG, clean, slice_rows=slice_rows, sketch_rows=slice_rows).digest)
        kinds = (("signature_matches", "hashes"), ("near_duplicate_pairs", "bands"))
        files = [sorted((made_last(store, step) / kind).iterdir()) for step, kind in kinds]
        slices.append([len(each) for each in files])
        pairs.append([set(zip(*map(np.ndarray.tolist, duplicates.read_pairs(each)), strict=True)) for each in files])
    assert slices[0] == [1, 1] and slices[2][0] == 3 and slices[1][1] < slices[2][1] < 37
    assert len(set(decided)) == 1
    assert pairs[0] == pairs[1] == pairs[2]
    exact, near = pairs[0]
    assert len(exact) == 30 and len(near) > 50
    bands, sketches = (
        pa.concat_tables([pq.read_table(path) for path in parts_of(Path(clean.uri) / kind, "train", "books")])
        for kind in (signatures.BANDS, signatures.SKETCHES)
    )
    assert near == searched(bands, sketches["sketch"].to_pylist(), {document for document, _ in exact})


def test_the_decision_is_the_same_however_much_is_held_at_a_time(tmp_path, monkeypatch):
    """Pairs a few files at a time, and sketches on the disk."""
    store, clean = look_alikes(tmp_path, seed=3, words=60, bases=12, edits=150, parts=3)
    whole = compare(store, CONFIG, clean)
    monkeypatch.setattr(duplicates, "_SKETCHES", 20)
    monkeypatch.setattr(duplicates, "_PAIRS", 30)
    small = compare(store, CONFIG, clean, slice_rows=100, sketch_rows=50)
    assert small.digest == whole.digest and small.identity != whole.identity
    assert whole.stats["near_duplicate"] > 100


def made_last(store, step):
    return Path(store.uri) / step / store.records(step)[-1]["identity"][:16]


def searched(bands, sketches, copies):
    """Pairs by the definition: in every group of equal keys the first leads those similar to it, and so on."""
    found = set()
    for name in bands.column_names[:-1]:
        groups = {}
        for number, key in enumerate(bands[name].to_pylist()):
            if number not in copies:
                groups.setdefault(key, []).append(number)
        for left in groups.values():
            while left:
                head, *others = left
                agree = {o: np.mean([a == b for a, b in zip(sketches[o], sketches[head], strict=True)]) for o in others}
                similar = {o for o in others if (agree[o] - 1 / 256) / (1 - 1 / 256) >= CONFIG.near_duplicate_threshold}
                found |= {(o, head) for o in similar}
                left = [o for o in others if o not in similar]
    return found


def test_groups_are_never_cut():
    groups = np.array([0, 0, 1, 1, 1, 1, 2, 5, 5])
    pieces = [groups[piece].tolist() for piece in duplicates.whole_groups(groups, 3)]
    assert pieces == [[0, 0, 1, 1, 1, 1], [2, 5, 5]]


def test_components_are_those_of_a_search():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 400, 300), rng.integers(0, 400, 300)
    neighbours = {node: set() for node in range(400)}
    for a, b in zip(one.tolist(), other.tolist(), strict=True):
        neighbours[a].add(b)
        neighbours[b].add(a)
    expected = [-1] * 400
    for node in range(400):
        waiting = [node] if expected[node] < 0 else []
        while waiting:
            at = waiting.pop()
            if expected[at] < 0:
                expected[at] = node
                waiting += neighbours[at]
    assert duplicates.components(np.arange(400), one, other).tolist() == expected
    root = np.arange(400)
    for piece in range(0, 300, 50):
        root = duplicates.components(root, one[piece : piece + 50], other[piece : piece + 50])
    assert root.tolist() == expected


def test_sketches_estimate_the_exact_jaccard_index():
    rng, pairs = Random(0), []
    for changes in range(1, 40):
        words = distinct_words(rng, 300)
        pairs.append((words, edited(rng, words, changes)))
    texts = Texts.of([" ".join(text) for pair in pairs for text in pair])
    hashes, bounds = signatures.shingles(texts, SHINGLE)
    sketch = signatures.sketches(signatures.minima(hashes, bounds, 128))
    error = signatures.similarity(sketch[::2], sketch[1::2]) - [jaccard(*pair) for pair in pairs]
    assert abs(error.mean()) < 0.02  # unbiased
    assert np.sqrt((error**2).mean()) < 0.05  # sqrt(J (1 - J) / 128) is at most .044


def test_shingles_by_hand():
    texts = Texts.of(["a b c d e f g", "A, B; C d e f X", "two words", "", "Two... WORDS"])
    hashes, bounds = signatures.shingles(texts, 5)
    assert np.diff(bounds).tolist() == [3, 3, 1, 0, 1]
    assert (hashes[0:2] == hashes[3:5]).all() and hashes[2] != hashes[5]  # abcde, bcdef; cdefg and cdefX
    assert hashes[6] == hashes[7]
    assert (signatures.minima(hashes, bounds, 16)[3] == 2**32 - 1).all()


def test_minima_do_not_depend_on_the_batch():
    rng = Random(1)
    texts = [" ".join(distinct_words(rng, rng.choice((3, 40, 20_000)))) for _ in range(9)]
    hashes, bounds = signatures.shingles(Texts.of(texts), 3)
    together = signatures.minima(hashes, bounds, 8)
    for row, text in enumerate(texts):
        own = signatures.minima(*signatures.shingles(Texts.of([text]), 3), 8)
        assert own[0].tolist() == together[row].tolist()


def test_bands_for_the_usual_threshold_are_those_of_the_formula():
    assert signatures.bands_for(0.8, 128) == (14, 9)  # as datasketch 2.0.0 chooses for weights .1 and .9
    assert signatures.bands_for(0.5, 128)[1] < 9


@pytest.mark.parametrize(
    ("count", "name"),
    [(1, "1-1"), (2, "2-5"), (5, "2-5"), (6, "6-10"), (10, "6-10"), (11, "11-100"), (101, "101-1000"), (1001, "1001+")],
)
def test_buckets_are_those_of_k2(count, name):
    assert bucket(count) == name


def test_any_number_of_workers_gives_the_same_bytes(tmp_path):
    rng = Random(8)
    bases = [distinct_words(rng, 60) for _ in range(20)]
    parts = {("train", source, part): [] for source in ("books", "web") for part in range(2)}
    for (_, source, part), documents in parts.items():
        for i in range(40):
            text = " ".join(edited(rng, rng.choice(bases), 1))
            documents.append(document(source, text, f"{source}{part}{i}"))
    one = curate_parts(tmp_path / "a", parts)
    other = curate_parts(tmp_path / "b", parts, workers=2)
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    assert part_path(one, "train", "web", 1).relative_to(one) in files
    for path in files:
        assert (one / path).read_bytes() == (other / path).read_bytes(), path
