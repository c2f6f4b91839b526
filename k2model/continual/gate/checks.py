"""The rows of the gate that are about a batch's documents: how many can be used, are new and clean, and what they say.

`recipe.continual.arrival` has the bounds. Shares are of the documents that were read, less those left out by `sample`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from k2model.continual.gate.batch_corpus import COPY_RULES, ITEM_EXPECTATIONS, ITEM_RULES, BatchCorpus
from k2model.continual.gate.drift import moved
from k2model.continual.gate.evidence import EXAMPLES, FATES, Check
from k2model.continual.gate.poison import suspicious
from k2model.continual.gate.profile import Profile
from k2model.continual.gate.reading import Read
from k2model.continual.state import Standing
from k2model.documents.families import FAMILIES
from k2model.documents.families.rebuilt import REBUILT, rebuilt
from k2model.recipe.continual import ArrivalConfig

LEAST_ASKED = 0.5  # of the documents have to ask what their verifier can judge


def data_checks(corpus: BatchCorpus, config: ArrivalConfig) -> list[Check]:
    """As far as the corpus was made."""
    fates = corpus.fates()
    if not fates:
        return []
    of = max(1, fates["read"] - fates["sampled out"])
    damage = corpus.damage
    rejected, known, copies, items = (fates[name] for name in ("rejected", "known copies", "copies", "items"))
    bad = max(rejected / of, damage)
    found = [
        Check.at_most(
            "rejected", bad, config.max_rejected,
            f"{rejected:,} of {of:,} documents ({rejected / of:.1%}) cannot be used"
            + (f", and {damage:.1%} of its bytes or files cannot be read" if damage else "")
            + f"; at most {config.max_rejected:.1%} may",
            examples=corpus.unusable,
        )
    ]  # fmt: skip
    if "duplicates" in corpus.made:
        share = (known + copies) / of
        found.append(
            Check.at_most(
                "copies", share, config.max_copies,
                f"{known:,} of {of:,} documents are copies of what is known and {copies:,} of each other "
                f"({share:.1%}); at most {config.max_copies:.1%} may be",
                examples=corpus.examples(COPY_RULES),
            )
        )  # fmt: skip
        found.append(
            Check.at_most(
                "contaminated", items / of, config.max_contaminated,
                f"{items:,} of {of:,} documents ({items / of:.1%}) hold evaluation items; at most "
                f"{config.max_contaminated:.1%} may",
                failing=Standing.QUARANTINED, examples=corpus.examples((*ITEM_RULES, *ITEM_EXPECTATIONS)),
            )
        )  # fmt: skip
    if "corpus_valid" in corpus.made:
        kept, least = fates["kept"], config.min_documents
        said = f"{kept:,} documents are left that are valid and new, at least {least:,} are needed"
        found.append(Check("documents left", kept, least, kept >= least, said))
        gone = sum(fates[name] for name in FATES) - fates["read"]
        said = f"{abs(gone):,} documents are not accounted for" if gone else "every document is accounted for"
        found.append(Check("account", abs(gone), 0, not gone, said))
    return found


def text_checks(
    documents: Sequence[Read], known: Mapping[str, Profile], config: ArrivalConfig, verifier: str
) -> tuple[list[Check], list[str]]:
    """(Rows about what documents that are left say, notes). known: by source, of the champion's corpora."""
    found, notes = [], []
    for one in moved(documents, known):
        examples = tuple(each.example() for each in documents if each.domain == one.domain)[:2]
        if not one.nearest:
            notes.append(f"new domain: {one.told}")
        said = f"{one.told}; at most {config.max_drift:g} is no drift. A domain of its own is no drift either"
        found.append(
            Check.at_most(
                f"drift of {one.domain or 'no domain'}", one.psi, config.max_drift, said if one.nearest else one.told,
                examples=examples if one.psi > config.max_drift else (),
            )
        )  # fmt: skip
    phrases, templates = suspicious(documents, known, config)
    notes += [f"template of the batch: {one.told}" for one in templates]
    said = "; ".join(one.told for one in phrases[:3]) or "no phrase stands out"
    shown = tuple(documents[each].example(phrase=one.text) for one in phrases[:3] for each in one.members[:2])
    found.append(Check.at_most("trigger phrases", len(phrases), 0, said, failing=Standing.QUARANTINED, examples=shown))
    if verifier:
        found.append(_labels(documents, verifier, config))
    return found, notes


def _labels(documents: Sequence[Read], verifier: str, config: ArrivalConfig) -> Check:
    if verifier not in REBUILT:
        said = f"its verifier '{verifier}' cannot tell an item from a prompt; those that can are {', '.join(REBUILT)}"
        return Check("answers", 1, 0, False, said)
    labels = checked(documents, verifier)
    if labels.asked < LEAST_ASKED * labels.documents:
        said = f"{labels.asked:,} of {labels.documents:,} documents ask what its verifier '{verifier}' can judge"
        return Check("answers", labels.asked / max(1, labels.documents), LEAST_ASKED, False, said)
    return Check.at_most(
        "answers", labels.share, config.max_mislabelled,
        f"{labels.wrong:,} of {labels.asked:,} answers ({labels.share:.1%}) are wrong by '{verifier}'; at most "
        f"{config.max_mislabelled:.1%} may be",
        failing=Standing.QUARANTINED, examples=labels.examples,
    )  # fmt: skip


# Answers, by a verifier.


@dataclass(frozen=True)
class Labels:
    """Of `documents` that were looked at: those whose prompt asks an item of the family (`asked`), and of these the
    first few that are answered wrongly, of `wrong`."""

    documents: int
    asked: int
    wrong: int
    examples: tuple[dict[str, str], ...]

    @property
    def share(self) -> float:
        """Of those that ask an item; 0 where none does."""
        return self.wrong / self.asked if self.asked else 0.0


def checked(documents: Sequence[Read], family: str) -> Labels:
    """Each document's last answer against the item that its prompt asks, as scores are checked. A document that asks no
    item of the family, or several, is not judged.

    Raises CorpusError for a family that has no such check (`families.rebuilt`).
    """
    rebuilt(family, "")
    check = FAMILIES[family].check
    asked, wrong = 0, list[dict[str, str]]()
    for one in documents:
        if (item := rebuilt(family, one.asked)) is None:
            continue
        asked += 1
        if not check(item, one.answer):
            wrong.append(one.example(answer=one.answer[:80], expected=item["answer"]))
    return Labels(len(documents), asked, len(wrong), tuple(wrong[:EXAMPLES]))
