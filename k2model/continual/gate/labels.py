"""Answers of a batch against the verifier that its manifest names: a task family, whose solver knows what is right."""

from collections.abc import Sequence
from dataclasses import dataclass

from k2model.continual.gate.reading import Read
from k2model.documents.families import FAMILIES
from k2model.documents.families.rebuilt import rebuilt

EXAMPLES = 5


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
