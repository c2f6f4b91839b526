"""Taking a tokenizer that somebody else learned, as a `tokenizer.json`, instead of learning one.

What the rest of the project relies on is checked by trying: every text comes back from its ids, also when texts are
encoded apart and decoded as one; no text acts as markup; ids have no holes. K2's special tokens are appended where
the file does not have them, so that its own ids stay, and the model may be one that was trained with it. Its own
special tokens keep their ids and are never made from text.
"""

import hashlib
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

from k2model.artifacts.files import files_at
from k2model.corpus.markup import SPECIAL_TOKENS
from k2model.tokens.errors import TokensError
from k2model.tokens.fertility import reference_texts
from k2model.tokens.tokenizer import TOKENIZER_FILE, K2Tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FUZZ_TEXTS, FUZZ_SEED = 512, 0
REMEDY = "adopt a byte-level BPE without a normaliser, or learn one (tokenizer.adopt='')"
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
    """The tokenizer with K2's special tokens, and how many of them were appended. Raises TokensError."""
    from tokenizers import AddedToken, Tokenizer

    from k2model.tokens.bpe import begin_with_bos

    try:
        tokenizer = Tokenizer.from_str(specification.decode("utf-8"))
    except Exception as error:  # `tokenizers` raises nothing more exact
        raise TokensError(f"{where}: not a {TOKENIZER_FILE} that `tokenizers` reads: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    _check_ids(tokenizer, specification, where)
    before = tokenizer.get_vocab_size()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS])
    begin_with_bos(tokenizer)
    _check_texts(K2Tokenizer(tokenizer.to_str(), where), where)
    return tokenizer, tokenizer.get_vocab_size() - before


def fuzz_texts() -> list[str]:
    """Seeded texts of all planes, white space, combining marks and special tokens; and the project's own."""
    rng = random.Random(FUZZ_SEED)
    own = [text for texts in reference_texts().values() for text in texts]
    return [*SPECIAL_TOKENS, *own, *(_fuzz(rng) for _ in range(FUZZ_TEXTS))]


def _fuzz(rng: random.Random) -> str:
    parts = []
    for _ in range(rng.randint(1, 12)):
        limit = rng.choice((0x80, 0x800, 0x3000, 0x110000))
        point = rng.randrange(limit)
        parts.append(rng.choice((rng.choice(_PIECES), rng.choice(SPECIAL_TOKENS), chr(point))))
    return "".join(part for part in parts if not "\ud800" <= part <= "\udfff")


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


def _check_texts(tokenizer: K2Tokenizer, where: str) -> None:
    texts = fuzz_texts()
    encoded = tokenizer.encode_batch(texts)
    markup = {tokenizer.special(name) for name in SPECIAL_TOKENS}
    for text, ids in zip(texts, encoded, strict=True):
        back = tokenizer.decode(ids)
        if back != text:
            raise TokensError(f"{where}: {text!r} comes back from its ids as {back!r}; {REMEDY}")
        if forged := markup & set(ids):
            raise TokensError(
                f"{where}: the plain text {text!r} gives the special token {tokenizer.decode([min(forged)])!r}, so "
                f"that a document could act as markup; {REMEDY}"
            )
    if tokenizer.decode([i for ids in encoded for i in ids]) != "".join(texts):
        raise TokensError(
            f"{where}: texts that are encoded apart do not decode to their concatenation (a prefix comes or goes); "
            f"{REMEDY}"
        )
