import json
from pathlib import Path

import pytest

from k2model.documents.sentences import sentences

LABELLED = Path(__file__).with_name("sentences.tsv")
#: A stop without a space behind it is a name of a file, an address or a decimal: what was glued by mistake is not seen.
MISSED = {"I like it.She does not."}


def labelled() -> list[tuple[int, str]]:
    """(how many sentences a reader counts, the text); a text with line feeds is written as JSON."""
    rows = (line.split("\t") for line in LABELLED.read_text(encoding="utf-8").splitlines())
    return [(int(count), json.loads(text) if "\\n" in text else text) for count, text in rows]


def test_sentences_are_counted_as_a_reader_counts_them() -> None:
    rows = labelled()
    wrong = {text for count, text in rows if len(sentences(text)) != count}
    assert len(rows) == 121 and wrong == MISSED


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Dr. Vale came by train. She left.", ["Dr. Vale came by train.", "She left."]),
        ('"Go!" she said. (He went.) "Fine."', ['"Go!" she said.', "(He went.)", '"Fine."']),
        ("他说。她听！\n\n完", ["他说。", "她听！", "完"]),
        ("ကျေးဇူးတင်ပါတယ်။ သွားမယ်။", ["ကျေးဇူးတင်ပါတယ်။", "သွားမယ်။"]),
        ("ខ្ញុំទៅ។ គាត់មក។", ["ខ្ញុំទៅ។", "គាត់មក។"]),
        ("ሰላም። እንዴት ነህ፧", ["ሰላም።", "እንዴት ነህ፧"]),
        ("Really⁉ Yes‼", ["Really⁉", "Yes‼"]),
        ("How are you?I am fine.", ["How are you?", "I am fine."]),
        ("See x.org/find?Name=b now.", ["See x.org/find?Name=b now."]),
    ],
)
def test_a_sentence_keeps_the_marks_that_close_it(text: str, wanted: list[str]) -> None:
    assert sentences(text) == wanted


@pytest.mark.parametrize(
    "text", ["." * 50_000, "a. " * 30_000, "\n" * 50_000, '"' * 50_000, "A." * 30_000, ". \n" * 20_000]
)
def test_text_without_sense_is_read_in_one_pass(text: str) -> None:
    found = sentences(text)
    assert sum(map(len, found)) <= len(text)
