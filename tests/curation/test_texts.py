"""What changes a text: its one form, personal data, lines; and the language it is in."""

import json

import numpy as np
import pyarrow as pa
import pytest

from k2model.curation import filters, pii
from k2model.curation.normalise import Written, clean_lines, normalise
from k2model.documents.markup import chat, joined, plain
from k2model.documents.schema import DOCUMENT_SCHEMA, make_document
from k2model.documents.spans import FlatSpans, segments_of
from k2model.errors import CorpusError
from k2model.recipe.curation import PII_KINDS, LineCleaning
from tests.curation.planted import GOOD


def strings(*texts):
    return pa.array(texts, type=pa.large_string())


@pytest.mark.parametrize(
    ("messy", "clean"),
    [
        ("Cafe\u0301  \r\nnext\x0c line\ufeff \n\n\n\n\n\nend\n\n", "Café\nnext line\n\n\nend"),
        ("a \nb", "a\nb"),
        ("a\t", "a"),
        ("\n\na", "a"),
        ("a\rb", "a\nb"),
        ("ab\u200bc", "abc"),
        ("plain text, as it is\n\n\n\tindented", "plain text, as it is\n\n\n\tindented"),
        ("naïve café", "naïve café"),
    ],
)
def test_natural_text_is_brought_into_one_form(messy, clean):
    found = normalise(strings("before ", messy, "after"), np.ones(3, bool))
    assert found.to_pylist() == ["before", clean, "after"]


def test_generated_text_keeps_its_spaces():
    found = normalise(strings(" t e n ", "a\r\n b ", "a page "), np.array([False, False, True]))
    assert found.to_pylist() == [" t e n ", "a\n b ", "a page"]


def test_what_is_written_changes_and_special_tokens_stay():
    turns = [{"role": "user", "content": "øne"}, {"role": "assistant", "content": "two"}]
    made = [plain("first"), chat(turns, "low"), plain("é")]
    documents = [make_document("s", "prose", "CC0-1.0", "test", segments) for segments in made]
    written = Written(pa.RecordBatch.from_pylist(documents, DOCUMENT_SCHEMA).slice(1))
    written.strings = strings(*(text.as_py().upper() + "!" for text in written.strings))
    expected = [
        [{**s, "text": s["text"].upper() + "!"} if s["kind"] == "text" else s for s in segments]
        for segments in made[1:]
    ]
    text, spans = (column.to_pylist() for column in written.documents())
    assert [segments_of({"text": t, "spans": s}) for t, s in zip(text, spans, strict=True)] == expected
    assert text == written.texts().to_pylist() == [joined(segments) for segments in expected]
    assert written.bodies().to_pylist() == ["ØNE!\n\nTWO!", "É!"]
    assert written.pages.tolist() == [False, False, True]


@pytest.mark.parametrize("ends", [[], [1], [2], [4], [0, 3, 1, 4], [-1, 3], [3, 4], [3, 3, 2]])
def test_spans_that_do_not_cover_their_text_are_refused(ends):
    """Of `aé`, 3 bytes: short, between the bytes of a letter, beyond the end, falling, before the beginning."""
    spans = [{"end": end, "kind": "text", "loss_mask": True} for end in ends]
    sound = make_document("s", "prose", "CC0-1.0", "test", plain("é"))
    bad = {**sound, "id": "bad", "text": "aé", "spans": spans}
    with pytest.raises(CorpusError, match="document 'bad': its spans do not cover its text"):
        FlatSpans.of(pa.RecordBatch.from_pylist([sound, bad, sound], DOCUMENT_SCHEMA))
    with pytest.raises(CorpusError, match="document 'bad'"):
        segments_of(bad)


FOUND = [
    ("email", "mail jane.doe+x@mail.corp.co.uk, please", "mail [EMAIL], please"),
    ("email", "<bob@site.org>", "<[EMAIL]>"),
    ("ip_address", "from 81.2.69.142 today.", "from [IP_ADDRESS] today."),
    ("ip_address", "at 81.2.69.142.", "at [IP_ADDRESS]."),
    ("ip_address", "host 2a00:1450:4001:81b::200e up", "host [IP_ADDRESS] up"),
    ("phone", "call +1 415 555 2671 now", "call [PHONE] now"),
    ("phone", "call +442079460958.", "call [PHONE]."),
    ("phone", "(212) 736-5000 or 212-736-5000", "[PHONE] or [PHONE]"),
    ("credit_card", "card 4111 1111 1111 1111 ends", "card [CREDIT_CARD] ends"),
    ("credit_card", "amex 378282246310005", "amex [CREDIT_CARD]"),
    ("iban", "pay DE89 3704 0044 0532 0130 00 soon", "pay [IBAN] soon"),
    ("iban", "GB82WEST12345698765432", "[IBAN]"),
    ("us_ssn", "ssn 219-09-9999,", "ssn [US_SSN],"),
    ("secret", "key AKIAIOSFODNN7QWERTYZ", "key [SECRET]"),
    ("secret", "token = 'ghp_" + "a1B2c3D4e5F6" * 3 + "'", "token = '[SECRET]'"),
    (
        "secret",
        "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEow0BAQ\n" * 8 + "-----END RSA PRIVATE KEY-----",
        "[SECRET]",
    ),
]
SPARED = [
    ("email", "user@example.com and root@localhost, icon@2x.png, git@github.com:org/repo, a @property"),
    ("ip_address", "127.0.0.1, 192.168.1.10, 10.0.0.1, 203.0.113.7, version 81.2.69.142, pip==81.2.69.142"),
    ("ip_address", "section 8.2.4.45, 1.2.3.4.5, 300.1.1.1, 12:30:45, fe80::1, ::1, std::vector"),
    ("phone", "1234567890, 415-555-0132, +35236450.6, 2024-01-15 10:30, 3.141-592-6535, 1+1 = 2, x+12345"),
    ("credit_card", "4111 1111 1111 1112, 0.4111111111111111, 0000000000000000, 1234567890123"),
    ("iban", "DE89 3704 0044 0532 0130 01, ISO8601 ABCD1234"),
    ("us_ssn", "000-12-3456, 666-12-3456, 900-12-3456, 123-45-67890, 2123-45-6789"),
    ("secret", "AKIAIOSFODNN7EXAMPLE, sk-, desk-lamp, hf_model, task-aaaaaaaaaaaaaaaaaaaaaaaa"),
]


@pytest.mark.parametrize(("kind", "text", "clean"), FOUND)
def test_personal_data_is_replaced_by_its_kind(kind, text, clean):
    found, counts = pii.remove(strings("nothing", text), [kind])
    assert found.to_pylist() == ["nothing", clean]
    assert counts == {kind: clean.count("[")}


@pytest.mark.parametrize(("kind", "text"), SPARED)
def test_what_only_looks_like_it_stays(kind, text):
    found, counts = pii.remove(strings(text), [kind])
    assert (found.to_pylist(), counts) == ([text], {})


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('{"card": 4111111111111111, "n": -1.5e3}', '{"card": "[CREDIT_CARD]", "n": -1.5e3}'),
        (r'{"to": "hello\nbob@site.org", "é": "\u00e9"}', r'{"to": "hello\n[EMAIL]", "é": "\u00e9"}'),
        (r'[{"arguments": "{\"to\": \"bob@site.org\"}"}]', r'[{"arguments": "{\"to\": \"[EMAIL]\"}"}]'),
        (r'{"a": "bob@site.org \ud83d\ude00 \ud800"}', r'{"a": "[EMAIL] \ud83d\ude00 \ud800"}'),
        (r'{"a": "é bob@site.org \ud800"}', r'{"a": "\u00e9 [EMAIL] \ud800"}'),
        ('{ "a": [ "é bob@site.org" ] }', '{ "a": [ "é [EMAIL]" ] }'),
    ],
)
def test_what_is_json_stays_json(text, clean):
    found, counts = pii.remove(strings(text), PII_KINDS)
    assert found.to_pylist() == [clean] and counts.total() == 1
    json.loads(clean)


def test_what_only_begins_like_json_is_text():
    found, _ = pii.remove(strings('{"n": bob@site.org', "[" * 100_000 + "bob@site.org"), PII_KINDS)
    assert found.to_pylist() == ['{"n": [EMAIL]', "[" * 100_000 + "[EMAIL]"]


def test_all_kinds_together_leave_nothing_to_find():
    texts = strings(*(text for _, text, _ in FOUND), GOOD)
    once, counts = pii.remove(texts, PII_KINDS)
    assert sum(counts.values()) == sum(clean.count("[") for _, _, clean in FOUND)
    again, none = pii.remove(once, PII_KINDS)
    assert again.equals(once) and not none


def test_every_hint_lets_its_kind_through():
    for kind, text, _ in FOUND:
        assert pii.matches(strings(text), pii.KINDS[kind].hint)[0], (kind, text)
    assert set(pii.KINDS) == set(PII_KINDS)


@pytest.mark.parametrize(
    ("cleaning", "kept"),
    [
        (LineCleaning(drop=(r"(?i)\bjavascript\b",)), ["A sentence here.", "", "Menu", "Two words"]),
        (LineCleaning(least_words=2), ["A sentence here.", "Enable JavaScript.", "", "Two words"]),
        (LineCleaning(terminal_punctuation=True), ["A sentence here.", "Enable JavaScript.", ""]),
    ],
)
def test_lines_are_cleaned_one_by_one(cleaning, kept):
    text = strings("A sentence here.\nEnable JavaScript.\n\nMenu\nTwo words")
    assert clean_lines(text, np.ones(1, bool), cleaning).to_pylist() == ["\n".join(kept)]


def test_languages_are_those_the_package_finds():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    alone = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    texts = [
        GOOD, "", "Der Leser liest die Datei in kleinen Stücken und gibt sie zurück.", "x",
        "هذه هي وحدة القراءة التي تعيد الأسطر إلى المتصل", "LOUD TEXT ABOUT NOTHING IN PARTICULAR",
        "Добар дан, ово је српски језик и ништа друго.", "Ceci n'est pas une pipe, mais une phrase française.",
    ]  # fmt: skip
    for text, (name, score) in zip(texts, filters.identify_languages(texts), strict=True):
        expected, probability = alone.classify(text)
        assert name == expected and score == pytest.approx(probability, abs=1e-3), text
    assert [filters.identify_languages([texts[i]])[0][0] for i in (0, 2, 4)] == ["en", "de", "ar"]
    assert filters.identify_languages([]) == []
