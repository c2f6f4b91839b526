"""What curation makes of texts in nine languages and seven scripts, on sets with labels: a table for docs.

    python -m benchmarks.scripts

Good documents are sentences of `benchmarks/scripts.toml`, three paragraphs of three; junk is made of the same words, in
the ways that rules are there for. Both go through `clean_part` with the profile of K2's recipe for that language, and
with that of files of unknown kind. Near copies are texts of their words with edits, down to a Jaccard index of 0.9.
Items stand in documents whole, in every normal form and as writers and programs join and spell them.
"""

import re
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING
from unicodedata import normalize

if TYPE_CHECKING:
    from k2model.recipe.curation import CurationProfile

SENTENCES = Path(__file__).with_suffix(".toml")
LANGUAGES = {
    "english": "en", "arabic": "ar", "persian": "fa", "chinese": "zh", "japanese": "ja", "thai": "th", "hindi": "hi",
    "russian": "ru", "code": "",
}  # fmt: skip
UNSPACED = ("chinese", "japanese", "thai")
GOOD, PAIRS = 24, 60


@dataclass(frozen=True)
class Outcome:
    """Of one language. kept and rejected: (number, of how many) by profile; wrong: (profile, label, rule) of those
    that went the other way; found: by spelling, items found and there; false: items found where none is."""

    language: str
    kept: Mapping[str, tuple[int, int]]
    rejected: Mapping[str, tuple[int, int]]
    wrong: tuple[tuple[str, str, str], ...]
    identified: tuple[int, int]
    copies: tuple[int, int]
    found: Mapping[str, tuple[int, int]]
    false: int


def sentences(language: str) -> list[str]:
    return tomllib.loads(SENTENCES.read_text(encoding="utf-8"))[language]["sentences"]


def pieces(language: str) -> list[str]:
    """Words; of scripts without spaces bits of two to five characters."""
    rng, found = Random(1), []
    for sentence in sentences(language):
        if language not in UNSPACED:
            found += re.findall(r"[^\s\u060c.,،。]+", sentence)
            continue
        letters = re.findall(r"\w[^\w\s.,。、，]*", sentence)
        while letters:
            size = rng.randint(2, 5)
            found.append("".join(letters[:size]))
            letters = letters[size:]
    return found


def good(language: str) -> list[str]:
    rng, gap = Random(2), "" if language in ("chinese", "japanese") else " "
    made = []
    for _ in range(GOOD):
        chosen = rng.sample(sentences(language), 9)
        made.append("\n\n".join(chosen) if language == "code" else
                    "\n\n".join(gap.join(chosen[at : at + 3]) for at in (0, 3, 6)))  # fmt: skip
    return made


def junk(language: str) -> dict[str, str]:
    """By kind. Those of `ANYWHERE` are junk to every profile; code has no rules on pages."""
    rng, words = Random(3), pieces(language)
    gap = "" if language in UNSPACED else " "
    lines = [gap.join(rng.sample(words, 5)) for _ in range(30)]
    one = gap.join(rng.sample(words, 4))
    made = {
        "two words": gap.join(rng.sample(words, 2))[:12],
        "one line again and again": "\n".join([lines[0]] * 20 + lines[1:9]),
        "signs": "\n".join(f"{word} ==== |||| ~~~~ ++++ #### <<<< >>>>" for word in rng.sample(words, 20)),
    }
    if language == "code":
        return made | {"numbers": "\n".join(f"0x{rng.randrange(1 << 32):08x}, {rng.random()}," for _ in range(60))}
    return made | {
        "key words": ", ".join([one] * 40),
        "numbers": " ".join(f"{word} {rng.randrange(10**6)} {rng.random():.3f} | {rng.randrange(99)}"
                            for word in rng.sample(words, 20) for _ in range(2)),
        "hash tags": " ".join(f"#{word}" for word in rng.sample(words, 60)),
        "teasers": "\n".join(f"{line}..." for line in lines),
        "a paragraph again and again": "\n\n".join(["\n".join(sentences(language)[:2])] * 6 + lines[:2]),
    }  # fmt: skip


ANYWHERE = ("two words", "one line again and again", "signs")


def judged(language: str, profile: "CurationProfile", documents: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """By label: the rule that rejects a document ("" when it stays) and the text that `clean_part` leaves of it."""
    import pyarrow.parquet as pq

    from k2model.curation.clean import CLEAN, REJECTS, clean_part
    from k2model.curation.parts import parts_in
    from k2model.documents.markup import plain
    from k2model.documents.schema import make_document, part_path, read_documents, write_documents, write_items
    from k2model.recipe.schema import CorpusConfig, SourceConfig

    chosen = replace(profile, sources=(language,), read_from_files=False)
    config = CorpusConfig(sources=(SourceConfig(language),), profiles=(chosen,))
    with tempfile.TemporaryDirectory() as home:
        raw, folder = Path(home) / "raw", Path(home) / "made"
        made = [make_document(language, "prose", "CC0-1.0", label, plain(text)) for label, text in documents.items()]
        write_documents(part_path(raw, "train", language), made)
        write_items(raw, "none", [])
        (part,) = parts_in(raw, [language])
        clean_part(raw, folder, part, config)
        labels = {document["id"]: document["origin"] for document in made}
        rules = {row["id"]: row["rule"] for row in pq.read_table(part.file(folder / REJECTS)).to_pylist()}
        texts = {document["id"]: document["text"] for document in read_documents(part.file(folder / CLEAN))}
    return {label: (rules.get(name, ""), texts.get(name, "")) for name, label in labels.items()}


def near_copies(language: str) -> tuple[int, int]:
    """(Found, all) of pairs whose shingles have a Jaccard index of about 0.9, by the bands and the sketches."""
    from k2model.curation.signatures import band_keys, bands_for, minima, shingles, similarity, sketches
    from k2model.curation.texts import Texts
    from k2model.recipe.schema import CorpusConfig

    config, rng, words = CorpusConfig(sources=()), Random(4), pieces(language)
    gap = "" if language in UNSPACED else " "

    def shingled(text: str) -> frozenset[int]:
        return frozenset(shingles(Texts.of([text]), config.shingle_words)[0].tolist())

    texts: list[str] = []
    for _ in range(PAIRS):
        edited = [rng.choice(words) for _ in range(250)]
        texts.append(gap.join(edited))
        own, jaccard = shingled(texts[-1]), 1.0
        for place in rng.sample(range(len(edited)), len(edited)):
            if jaccard <= 0.905:
                break
            edited[place] = rng.choice(words)
            other = shingled(gap.join(edited))
            jaccard = len(own & other) / len(own | other)
        texts.append(gap.join(edited))
    minimum = minima(*shingles(Texts.of(texts), config.shingle_words), config.minhash_permutations)
    keys = band_keys(minimum, *bands_for(config.near_duplicate_threshold, config.minhash_permutations))
    own_sketches = sketches(minimum)
    alike = similarity(own_sketches[::2], own_sketches[1::2]) >= config.near_duplicate_threshold
    return int(((keys[::2] == keys[1::2]).any(axis=1) & alike).sum()), PAIRS


def _broken(text: str) -> str:
    """A line feed for every space, and behind every seventh letter where there are no spaces."""
    from k2model.curation.texts import Texts

    if " " in text.strip() and len(text.split()) > len(text) / 12:
        return text.replace(" ", "\n")
    starts = Texts.of([text]).words.starts.tolist()[7::7]
    return "\n".join(text[a:b] for a, b in zip([0, *starts], [*starts, len(text)], strict=True))


def spellings(language: str) -> dict[str, Callable[[str], str]]:
    """The ways in which an item is written into a document."""
    made: dict[str, Callable[[str], str]] = {
        "as it is": lambda text: text,
        **{form: partial(normalize, form) for form in ("NFC", "NFD", "NFKC", "NFKD")},
        "upper case": str.upper,
        "full width": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
        "line breaks": _broken,
        "soft hyphens": lambda text: text.replace("a", "a\xad").replace("و", "و\xad"),
    }
    if language in ("arabic", "persian"):
        made |= {
            "tatweel": lambda text: re.sub(r"(?<=[بتسمنيی])(?=[ا-ي])", "ـ", text),
            "points": lambda text: re.sub(r"([ا-ي])", "\\1\u064e", text),
            "Persian letters": lambda text: text.translate(str.maketrans("يك", "یک")),
            "Arabic letters": lambda text: text.translate(str.maketrans("یک", "يك")),
            "ASCII digits": lambda text: text.translate(str.maketrans("٤٥۴۵", "4545")),
            "no joiners": lambda text: text.replace("\u200c", ""),
            "spaces for joiners": lambda text: text.replace("\u200c", " "),
            "presentation forms": lambda text: text.replace("لا", "\ufefb").replace("م", "\ufee1"),
        }
    if language in UNSPACED:
        made["spaces between letters"] = lambda text: re.sub(r"(\w\W*)(?=\w)", r"\1 ", text)
    if language == "thai":
        made["spaces of no width"] = lambda text: text.replace("ที่", "ที่\u200b")
    return made


def items_found(language: str) -> tuple[dict[str, tuple[int, int]], int]:
    """By spelling (items found, items there), and how many are found in texts that have none."""
    from k2model.curation.normalise import clean_page
    from k2model.curation.overlap import EvaluationItem, ItemIndex
    from k2model.curation.texts import Texts
    from k2model.recipe.curation import DecontaminationConfig

    own = sentences(language)
    asked, rest = own[::2], own[1::2]
    shown = {"chinese": 10, "japanese": 14, "thai": 24, "code": 12}.get(language, 4)  # characters, or words
    short = [text[:shown] if language in UNSPACED else " ".join(text.split(" ")[:shown]) for text in asked]
    whole = [EvaluationItem("quiz", str(at), "", text, "", True, True) for at, text in enumerate([*asked, *short])]
    gap = "" if language in UNSPACED else " "
    index = ItemIndex(whole, DecontaminationConfig())
    made: dict[str, tuple[int, int]] = {}
    for name, spelled in spellings(language).items():
        texts = [gap.join((rest[0], spelled(item.prompt), rest[1])) for item in whole]
        found = index.overlaps(Texts.of([clean_page(text) for text in texts]))
        pairs = set(zip(found.text.tolist(), found.item.tolist(), strict=True))
        made[name] = sum((at, at) in pairs for at in range(len(whole))), len(whole)
    false = index.overlaps(Texts.of([clean_page(gap.join(rest))]))
    return made, len(false.text)


def outcome(language: str) -> Outcome:
    from k2model.curation.filters import identify_languages
    from k2model.recipe.curation import CODE, FILES, K2_PROFILES

    named = {profile.name: profile for profile in K2_PROFILES}
    k2 = {"english": named["web"], "arabic": named["arabic"], "code": CODE}.get(language, named["multilingual"])
    fine, bad = {f"good {at}": text for at, text in enumerate(good(language))}, junk(language)
    kept, rejected, wrong = {}, {}, []
    for name, profile in (("k2", k2), ("files", FILES)):
        wanted = bad if name == "k2" else {label: bad[label] for label in ANYWHERE}
        told = judged(language, profile, fine | wanted)
        kept[name] = sum(not told[label][0] for label in fine), len(fine)
        rejected[name] = sum(bool(told[label][0]) for label in wanted), len(wanted)
        wrong += [(name, label, rule) for label, (rule, _) in told.items() if bool(rule) != (label in wanted)]
    identified = sum(found == LANGUAGES[language] for found, _ in identify_languages(list(fine.values())))
    found, false = items_found(language)
    return Outcome(language, kept, rejected, tuple(wrong), (identified, len(fine)), near_copies(language), found, false)


def table(outcomes: Iterable[Outcome]) -> str:
    """In Markdown, a language a row."""
    rows = [
        "| | good kept: K2's profile | files | junk rejected: K2's profile | files | language told | near copies "
        "at 0.9 | items found, all spellings | found where none is |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        there = tuple(map(sum, zip(*one.found.values(), strict=True)))
        told = one.identified if LANGUAGES[one.language] else ("", "")
        shares = [one.kept["k2"], one.kept["files"], one.rejected["k2"], one.rejected["files"], told, one.copies, there]
        cells = [f"{some} of {of}" if some != "" else "" for some, of in shares]
        rows.append(f"| {one.language} | {' | '.join(cells)} | {one.false} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table(map(outcome, LANGUAGES)))
