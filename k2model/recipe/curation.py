"""How each kind of source is curated: profiles of quality rules, languages, personal data and overlap, as data.

A profile applies to the sources its patterns name; the first that matches counts. Rules are bounds on
measures (`k2model.curation.measures`); a document outside one is rejected under the rule's name. The
bounds of `WEB_RULES` are those of the papers named; what K2's own filters were is public in kind only
(language, URL, line cleaning, document filters, personal data, exact and MinHash deduplication), not in figures.
"""

from dataclasses import dataclass, replace

from k2model.recipe.fields import place

UNBOUNDED = 1e15

#: Scripts by what rules on words and lines need to know of them; names are those of `k2model.curation.characters`.
ALPHABETS = ("Latin", "Greek", "Cyrillic", "Armenian", "Georgian")
SPACED = (
    *ALPHABETS, "Hebrew", "Arabic", "Syriac", "Thaana", "Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya",
    "Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala", "Ethiopic", "Hangul",
)  # fmt: skip
#: With a mark at the end of a sentence; Thai and Lao have none.
PUNCTUATED = (*SPACED, "Tibetan", "Mongolian", "Myanmar", "Khmer", "Kana", "Han", "Yi")

#: Stop words of Gopher (Rae et al. 2021, section A.1.1), of which a page should hold two.
GOPHER_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
MANUAL_STOP_WORDS = (*GOPHER_STOP_WORDS, "a", "is", "in", "for")
BOILERPLATE = r"(?i)lorem ipsum|all rights reserved|without warranty of any kind"
#: Lines C4 removes (Raffel et al. 2020, section 2.2).
C4_LINES = (
    r"(?i)\bjavascript\b",
    r"(?i)terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies",
)
PII_KINDS = ("email", "ip_address", "phone", "credit_card", "iban", "us_ssn", "secret")


@dataclass(frozen=True)
class QualityRule:
    """A document is rejected under `name` when its `measure` lies outside [at_least, at_most].

    Documents with fewer than `from_lines` non-blank lines are not judged by it, nor those whose main script (that of
    most of their text) is not among `scripts`, where any are named.
    """

    name: str
    measure: str
    at_least: float = -UNBOUNDED
    at_most: float = UNBOUNDED
    from_lines: int = 0
    scripts: tuple[str, ...] = ()  # names of `k2model.curation.characters`; none = every script


@dataclass(frozen=True)
class PhraseRule:
    """A document is rejected under `name` when the regular expression (RE2 syntax) occurs in it."""

    name: str
    pattern: str


@dataclass(frozen=True)
class LineCleaning:
    """Lines that are taken out of a page while the rest stays; nothing by default. A chat is no page: it stays whole.

    `drop` are regular expressions (RE2 syntax). A line is kept when it is blank, or has `least_words` words and, if
    `terminal_punctuation`, ends with a mark that ends a sentence.
    """

    drop: tuple[str, ...] = ()
    least_words: int = 0
    terminal_punctuation: bool = False

    @property
    def wanted(self) -> bool:
        return bool(self.drop) or self.least_words > 0 or self.terminal_punctuation


@dataclass(frozen=True)
class CurationProfile:
    """What is done to the documents of the sources that `sources` (patterns like `chat/*`) name."""

    name: str
    sources: tuple[str, ...]
    read_from_files: bool = False  # of those sources, the ones with a location alone
    chats: bool = False  # of those sources, the ones of chat turns (`fields.messages`) alone
    natural: bool = True  # written by people: white space of pages is tidied, near duplicates are looked for
    overlap: bool = True  # compared with evaluation items word by word, besides by key
    rules: tuple[QualityRule, ...] = ()
    phrases: tuple[PhraseRule, ...] = ()
    stop_words: tuple[str, ...] = GOPHER_STOP_WORDS
    lines: LineCleaning = LineCleaning()
    languages: tuple[str, ...] = ()  # ISO 639-1; none = any language, and no language is identified
    language_score: float = 0.5  # least probability of the best language
    pii: tuple[str, ...] = ()  # kinds of personal data replaced by placeholders, of `PII_KINDS`
    blocked_hosts: tuple[str, ...] = ()  # hosts of `origin`, with their subdomains
    blocked_origin_words: tuple[str, ...] = ()  # words of `origin`, whatever their case


@dataclass(frozen=True)
class DecontaminationConfig:
    """Overlap with evaluation items: 13 words as GPT-3 (Brown et al. 2020, appendix C), or a short prompt whole.

    Of scripts without spaces 13 words are as many characters as make them up: 26 Han, 39 kana, 52 Thai.
    `external` are files of further items, JSONL or Parquet, see `k2model.curation.overlap`.
    """

    words: int = 13
    least_prompt_words: int = 3  # prompts of fewer words are matched by key alone
    external: tuple[str, ...] = place(())
    prompt_field: str = "prompt"
    answer_field: str = "answer"


PROSE_RULES = (
    QualityRule("few_words", "words", at_least=8.0),
    QualityRule("mean_word_length", "mean_word_length", at_least=3.0, at_most=10.0, scripts=ALPHABETS),
    QualityRule("symbols", "symbol_share", at_most=0.35),
    QualityRule("digits", "digit_share", at_most=0.2),
    QualityRule("repeated_lines", "repeated_lines", at_most=0.3, from_lines=4),
    QualityRule("no_stop_words", "stop_words", at_least=2.0, scripts=("Latin",)),
)
CODE_RULES = (
    QualityRule("few_words", "words", at_least=8.0),
    QualityRule("mean_word_length", "mean_word_length", at_least=2.0, at_most=12.0, scripts=ALPHABETS),
    QualityRule("symbols", "symbol_share", at_most=0.5),
    QualityRule("digits", "digit_share", at_most=0.3),
    QualityRule("repeated_lines", "repeated_lines", at_most=0.4, from_lines=4),
)
#: Gopher's table A1 and section A.1.1, then FineWeb's three (Penedo et al. 2024, section 3.6). Their bounds are for
#: English: stop words judge Latin script alone, lengths of words alphabets, lengths of lines scripts with spaces.
WEB_RULES = (
    QualityRule("few_words", "words", at_least=50.0),
    QualityRule("many_words", "words", at_most=100_000.0),
    QualityRule("mean_word_length", "whitespace_word_length", at_least=3.0, at_most=10.0, scripts=ALPHABETS),
    QualityRule("hash_symbols", "hashes_per_word", at_most=0.1),
    QualityRule("ellipses", "ellipses_per_word", at_most=0.1),
    QualityRule("bullet_lines", "bullet_lines", at_most=0.9),
    QualityRule("ellipsis_lines", "ellipsis_lines", at_most=0.3),
    QualityRule("alphabetic_words", "alphabetic_words", at_least=0.8),
    QualityRule("no_stop_words", "stop_words", at_least=2.0, scripts=("Latin",)),
    QualityRule("repeated_lines", "repeated_lines", at_most=0.3),
    QualityRule("repeated_paragraphs", "repeated_paragraphs", at_most=0.3),
    QualityRule("repeated_line_characters", "repeated_line_characters", at_most=0.2),
    QualityRule("repeated_paragraph_characters", "repeated_paragraph_characters", at_most=0.2),
    *(QualityRule(f"top_{n}gram", f"top_{n}gram", at_most=most) for n, most in ((2, 0.2), (3, 0.18), (4, 0.16))),
    *(
        QualityRule(f"repeated_{n}grams", f"repeated_{n}grams", at_most=most)
        for n, most in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.1))
    ),
    QualityRule("punctuated_lines", "punctuated_lines", at_least=0.12, scripts=PUNCTUATED),
    QualityRule("fineweb_line_characters", "repeated_line_characters", at_most=0.1),
    QualityRule("short_lines", "short_lines", at_most=0.67, scripts=SPACED),
)
#: Formulas have symbols, digits and short lines; what repeats itself is still no text.
MATH_RULES = (
    QualityRule("few_words", "words", at_least=20.0),
    QualityRule("mean_word_length", "mean_word_length", at_least=1.5, at_most=12.0, scripts=ALPHABETS),
    QualityRule("symbols", "symbol_share", at_most=0.6),
    QualityRule("repeated_lines", "repeated_lines", at_most=0.3, from_lines=4),
    QualityRule("repeated_10grams", "repeated_10grams", at_most=0.3),
)
BOILERPLATE_RULES = (PhraseRule("boilerplate", BOILERPLATE),)

PROSE = CurationProfile(
    "prose", ("prose",), rules=PROSE_RULES, phrases=BOILERPLATE_RULES, stop_words=MANUAL_STOP_WORDS, pii=PII_KINDS
)
#: E-mail and network addresses in code are examples and constants more often than anyone's; keys are secrets.
CODE = CurationProfile("code", ("code",), rules=CODE_RULES, phrases=BOILERPLATE_RULES, pii=("secret",))
WORDED = CurationProfile("worded", ("facts", "chat/facts", "chat/identity", "chat/tools"), natural=False)
#: What is read from files and no profile is made for: any language and kind of text, so only what is surely none goes.
FILES = CurationProfile(
    "files",
    ("*",),
    read_from_files=True,
    rules=(
        QualityRule("few_words", "words", at_least=5.0),
        QualityRule("symbols", "symbol_share", at_most=0.7),
        QualityRule("repeated_lines", "repeated_lines", at_most=0.5, from_lines=8),
    ),
    pii=PII_KINDS,
)
#: A chat may be short: "2 + 2?" and "4" is one.
CHATS = replace(FILES, name="chats", chats=True, rules=tuple(rule for rule in FILES.rules if rule.name != "few_words"))
GENERATED = CurationProfile("generated", ("*",), natural=False, overlap=False)
#: The laptop's sources. Its prose and code come from Python's own library: English, and without a web page's dirt.
STANDARD_PROFILES = (PROSE, CODE, WORDED, CHATS, FILES, GENERATED)

WEB = CurationProfile(
    "web",
    ("*",),
    rules=WEB_RULES,
    phrases=(PhraseRule("lorem_ipsum", r"(?i)lorem ipsum"), PhraseRule("curly_bracket", r"\{")),
    lines=LineCleaning(drop=C4_LINES),
    languages=("en",),
    language_score=0.65,
    pii=PII_KINDS,
)
_ANY_LANGUAGE = tuple(rule for rule in WEB_RULES if rule.name not in ("no_stop_words", "mean_word_length"))
#: For K2's sources by name. Its synthetic and instruction data are taken as they are.
K2_PROFILES = (
    CurationProfile(
        "generated",
        (
            "txt360_qa_*",
            "TxT360-QA/*",
            "reasoning*",
            "planning",
            "math",
            "ai",
            "general",
            "*-high",
            "*-medium",
            "*-low",
        ),
        natural=False,
    ),
    replace(CODE, name="code", sources=("open*coder*", "megamath*code")),
    CurationProfile("math", ("megamath*", "math_datasets*", "dm_maths*"), rules=MATH_RULES, pii=("email", "secret")),
    replace(
        WEB,
        name="arabic",
        sources=("AraV6*", "arabic"),
        languages=("ar",),
        rules=_ANY_LANGUAGE,
    ),
    replace(WEB, name="multilingual", sources=("europarl*",), languages=(), rules=_ANY_LANGUAGE),
    WEB,
)
