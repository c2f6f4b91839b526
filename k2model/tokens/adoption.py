"""Taking a tokenizer that somebody else learned, as a `tokenizer.json`, instead of learning one.

Its ids stay, so that the model may be one that was trained with it; K2's special tokens are appended where it lacks
them. Of its added tokens those flagged as special, and K2's by name, are control tokens, which are never made from
text. The others (runs of spaces, `<tool_call>`) are vocabulary, found in any text as the file says. A text without
control tokens has the ids of the file, here and in the release.

Parts of a `tokenizer.json` that would break this are refused by name. What is left is tried: every text comes back
from its ids and has the file's; no text acts as markup; a chat that is rendered has the ids it is trained on.
"""

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2model.artifacts.files import files_at
from k2model.documents.markup import EFFORTS, SPECIAL_TOKENS, chat, joined
from k2model.errors import TokensError
from k2model.tokens.fertility import reference_texts
from k2model.tokens.tokenizer import TOKENIZER_FILE, K2Tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FUZZ_TEXTS, FUZZ_SEED = 512, 0
REMEDY = "adopt a plain byte-level BPE, or learn one (tokenizer.adopt='')"
#: Pre-tokenizers that keep every character of a text, unless they are told to remove what they split at.
SPLITTERS = ("ByteLevel", "Split", "Digits", "Punctuation", "UnicodeScripts")
_PIECES = (
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    "\n \n",
    "\0",
    "a",
    "the",
    "12",
    "don't",
    "e\u0301",
    "ﬁ",
    "Å",
    "…",
    "כ",
    "كِ",
    "東",
    "😀",
)


def read_specification(place: str) -> bytes:
    """The `tokenizer.json` at `place`: its folder or itself, a path or URI. Raises TokensError."""
    folder = place.removesuffix(TOKENIZER_FILE)
    try:
        return files_at(folder or ".").read(TOKENIZER_FILE)
    except FileNotFoundError as error:
        raise TokensError(
            f"tokenizer.adopt='{place}': no {TOKENIZER_FILE} there; expected a folder or URI that holds one, as "
            "`save_pretrained` of a fast tokenizer of transformers writes it"
        ) from error


def the_same(specifications: Mapping[str, bytes]) -> tuple[str, bytes]:
    """The one `tokenizer.json` that all of `specifications` are, written whichever way, and what names it. Raises
    TokensError, which names two that differ."""
    (where, first), *others = specifications.items()
    for other, specification in others:
        if specification != first and _content(specification, other) != _content(first, where):
            raise TokensError(
                f"{where} and {other} are different tokenizers, and a recipe has one: an adopted model means the ids "
                "of its own. Leave tokenizer.adopt empty to take the model's, or adopt models of one tokenizer"
            )
    return where, first


def _content(specification: bytes, where: str) -> Any:
    try:
        return json.loads(specification)
    except (ValueError, RecursionError) as error:
        raise TokensError(f"{where}: {TOKENIZER_FILE} is no JSON ({error}); get it again") from error


def content_digest(specification: bytes) -> str:
    """What bears the identity of an adopted tokenizer: what it says, not where it lies."""
    return hashlib.sha256(specification).hexdigest()


def adopt_folder(specification: bytes, vocab_size: int, folder: Path, where: str) -> dict[str, float]:
    """Write the tokenizer of `specification`, with K2's special tokens, into `folder`; returns its stats.

    Raises TokensError, which names `where`, when it is not usable or has more than `vocab_size` entries.
    """
    from k2model.tokens.bpe import write

    tokenizer, appended = adopted(specification, where)
    size = tokenizer.get_vocab_size()
    if size > vocab_size:
        raise TokensError(
            f"{where}: {size} entries with K2's special tokens, of which {appended} were appended, are more than "
            f"tokenizer.vocab_size={vocab_size}; set tokenizer.vocab_size={size}, and model.vocab_size to no less"
        )
    write(tokenizer, folder)
    return {"vocab_size": float(size), "appended": float(appended)}


def adopted(specification: bytes, where: str) -> tuple["Tokenizer", int]:
    """The tokenizer with all bytes and K2's special tokens, and how many entries it got. Raises TokensError."""
    from tokenizers import AddedToken

    from k2model.tokens.bpe import begin_with_bos

    before = _loaded(specification, where).get_vocab_size()
    specification = with_all_bytes(specification)
    tokenizer, theirs = _loaded(specification, where), _loaded(specification, where)
    _check_ids(tokenizer, specification, where)
    if problem := next(_unsupported(json.loads(tokenizer.to_str())), None):
        raise TokensError(f"{where}: {problem}; {REMEDY}")
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS])
    begin_with_bos(tokenizer)
    ours = K2Tokenizer(tokenizer.to_str(), where)
    _check_texts(ours, theirs, where)
    _check_chats(ours, tokenizer, where)
    return tokenizer, tokenizer.get_vocab_size() - before


def with_all_bytes(specification: bytes) -> bytes:
    """A `tokenizer.json` whose vocabulary has every byte of UTF-8, though some never occurred in what it was learned
    from (SmolLM2's has six control characters less, and the first bytes of two planes), so that it loses them.

    Each gets an entry behind the last. A vocabulary without letters or spaces is left to be refused, and so is one with
    added tokens behind it: they would move.
    """
    content = json.loads(specification)
    model = content.get("model") or {}
    vocabulary = model.get("vocab")
    if model.get("type") != "BPE" or not isinstance(vocabulary, dict):
        return specification
    missing = [written for _, written in _missing_bytes(vocabulary)]
    usual = any(byte in b"\t\n\r" or 0x20 <= byte < 0x7F for byte, _ in _missing_bytes(vocabulary))
    behind = any(token["content"] not in vocabulary for token in content.get("added_tokens") or [])
    if not missing or usual or behind:
        return specification
    vocabulary |= {written: max(vocabulary.values()) + number for number, written in enumerate(missing, start=1)}
    return json.dumps(content).encode()


def fuzz_texts(pieces: Sequence[str] = ()) -> list[str]:
    """Seeded texts of all planes, white space, combining marks, special tokens and `pieces`; and the project's own."""
    rng = random.Random(FUZZ_SEED)
    own = [text for texts in reference_texts().values() for text in texts]
    kinds = [_PIECES, SPECIAL_TOKENS, *([pieces] if pieces else [])]
    return [*SPECIAL_TOKENS, *pieces, *own, *(_fuzz(rng, kinds) for _ in range(FUZZ_TEXTS))]


def _fuzz(rng: random.Random, kinds: Sequence[Sequence[str]]) -> str:
    parts = []
    for _ in range(rng.randint(1, 12)):
        limit = rng.choice((0x80, 0x800, 0x3000, 0x110000))
        point = chr(rng.randrange(limit))
        parts.append(rng.choice((*(rng.choice(kind) for kind in kinds), point)))
    return "".join(part for part in parts if not "\ud800" <= part <= "\udfff")


def _loaded(specification: bytes, where: str) -> "Tokenizer":
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(specification.decode("utf-8"))
    except Exception as error:  # `tokenizers` raises nothing more exact
        raise TokensError(f"{where}: not a {TOKENIZER_FILE} that `tokenizers` reads: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _unsupported(content: dict[str, Any]) -> Iterator[str]:
    """What of a `tokenizer.json` changes or loses text, gives ids by chance or reaches into K2's markup."""
    model = content["model"]
    if model["type"] != "BPE":
        yield f"its model is {model['type']}, not BPE"
        return
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model[name]:
            yield f"its BPE has {name}={model[name]!r}"
    for one in _parts(content["normalizer"], "normalizers"):
        yield f"it has the normalizer {one['type']}, which changes text"
    splitters = list(_parts(content["pre_tokenizer"], "pretokenizers"))
    for one in splitters:
        if one["type"] not in SPLITTERS or one.get("behavior") == "Removed" or one.get("add_prefix_space"):
            yield f"its pre-tokenizer {json.dumps(one, ensure_ascii=False)} does not keep text as it is"
    decoders = [one["type"] for one in _parts(content["decoder"], "decoders")]
    if [one["type"] for one in splitters].count("ByteLevel") != 1 or decoders != ["ByteLevel"]:
        yield "it is not byte-level: expected one ByteLevel among its pre-tokenizers, and one as its decoder"
    yield from _without_bytes(model["vocab"])
    for token in content["added_tokens"]:
        if token["content"] not in SPECIAL_TOKENS:
            yield from _unsupported_token(token)


def _parts(part: dict[str, Any] | None, name: str) -> Iterator[dict[str, Any]]:
    """What a part of a `tokenizer.json` consists of: itself, or the members of a sequence."""
    if part and part["type"] == "Sequence":
        for one in part[name]:
            yield from _parts(one, name)
    elif part:
        yield part


def _without_bytes(vocabulary: dict[str, int]) -> Iterator[str]:
    if missing := sorted(written for _, written in _missing_bytes(vocabulary)):
        yield f"its vocabulary lacks {len(missing)} of the bytes of UTF-8, among them the one written {missing[0]!r}"


def _missing_bytes(vocabulary: dict[str, int]) -> Iterator[tuple[int, str]]:
    """Each byte of UTF-8 that has no entry, and how it is written in a byte-level vocabulary: visible ones as
    themselves, the others in order from U+0100 on (GPT-2)."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    written = {byte: chr(byte if byte in visible else next(hidden)) for byte in range(0x100)}
    never = {0xC0, 0xC1, *range(0xF5, 0x100)}
    yield from ((byte, name) for byte, name in written.items() if byte not in never and name not in vocabulary)


def _unsupported_token(token: dict[str, Any]) -> Iterator[str]:
    content = token["content"]
    for flag in ("lstrip", "rstrip"):
        if token[flag] and not token["special"]:
            yield f"its added token {content!r} has {flag}, which takes white space from a text"
    if token["special"] and "\n" in content:
        yield f"its special token {content!r} has a line feed: the frame of a chat and a text could make it together"
    for tag in SPECIAL_TOKENS:
        begins = any(content[1:].endswith(tag[:length]) for length in range(1, len(tag)))
        if tag in content or begins:
            yield f"its added token {content!r} would hide K2's special token {tag!r} in a chat that is rendered"


def _check_ids(tokenizer: "Tokenizer", specification: bytes, where: str) -> None:
    """Ids are those of the file and 0..n-1: an appended token takes the next, and a model has a row for each."""
    for token in json.loads(specification).get("added_tokens", []):
        found = tokenizer.token_to_id(token["content"])
        if found != token["id"]:
            raise TokensError(
                f"{where}: the added token {token['content']!r} has id {token['id']}, but loads as {found}; it must "
                "be the next after the vocabulary and the added tokens before it"
            )
    ids = set(tokenizer.get_vocab().values())
    if ids != set(range(len(ids))):
        hole = next(i for i in range(len(ids)) if i not in ids)
        raise TokensError(
            f"{where}: no token has id {hole}, though ids go up to {max(ids)}; fill the holes of its vocabulary with "
            "unused entries"
        )


def _check_texts(ours: K2Tokenizer, theirs: "Tokenizer", where: str) -> None:
    added = theirs.get_added_tokens_decoder().values()
    control = {*SPECIAL_TOKENS, *(token.content for token in added if token.special)}
    vocabulary = [token.content for token in added if token.content not in control]
    pieces = [piece for content in vocabulary for piece in (content, content[:-1], content[1:], content * 2) if piece]
    texts = fuzz_texts(pieces)
    markup = {ours.special(name) for name in SPECIAL_TOKENS}
    original = theirs.encode_batch_fast(texts, add_special_tokens=False)
    for text, ids, own in zip(texts, ours.encode_batch(texts), original, strict=True):
        back = ours.decode(ids)
        if back != text:
            raise TokensError(f"{where}: {text!r} comes back from its ids as {back!r}; {REMEDY}")
        if forged := markup & set(ids):
            raise TokensError(
                f"{where}: the plain text {text!r} gives the special token {ours.decode([min(forged)])!r}, so "
                f"that a document could act as markup; {REMEDY}"
            )
        if ids != own.ids and not any(name in text for name in control):
            raise TokensError(f"{where}: {text!r} has the ids {ids}, in the file itself {own.ids}; {REMEDY}")


def _check_chats(ours: K2Tokenizer, matched: "Tokenizer", where: str) -> None:
    """What `matched`, which finds special tokens in text, makes of a chat is what it is trained on."""
    reply = {"role": "assistant", "trace": "a", "content": "a", "tool_call": "{}"}
    turns = [{"role": role, "content": "a", "tools": "[]"} for role in ("system", "user", "tool")]
    for effort in EFFORTS:
        segments = chat([*turns, reply], effort)
        if matched.encode(joined(segments), add_special_tokens=False).ids != ours.encode_segments(segments)[0]:
            raise TokensError(
                f"{where}: an added token is a part of the frame of chats, so that a chat which is rendered has other "
                f"ids than it is trained on ({joined(segments)!r}); {REMEDY}"
            )
