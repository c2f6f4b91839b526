"""Prose: docstrings of the standard library, and the topics of Python's interactive help.

Short docstrings of a module are put together, long texts are cut between paragraphs, so that a
document is a page rather than a line or a book.

Code: the standard library's modules, cut between definitions into documents of a page or two.

Small talk: who the model is, who made it, what it can do, greetings and thanks.

The laptop's model says that it is a small sibling of K2-V2 trained by this pipeline, in a few dozen
wordings; it has no need of thinking, so the trace is empty at every effort.
"""

import itertools
from itertools import pairwise

from k2model.documents.markup import EFFORTS, chat, plain
from k2model.documents.schema import Document, is_heldout, make_document
from k2model.documents.standard_library import LICENCE, Module, modules, outline

PROSE_PAGE = 1_500  # characters a document aims at
MIN_DOCSTRING = 60


def prose_documents() -> tuple[list[Document], list[Document]]:
    """(trained, held out), split by module or topic."""
    from pydoc_data.topics import topics

    texts = [(module.name, docstrings(module)) for module in modules()]
    texts += [(f"pydoc_data.topics.{name}", [topics[name].strip()]) for name in sorted(topics)]
    pages = [(origin, page) for origin, pieces in texts for page in paginate(pieces)]
    made = [make_document("prose", "prose", LICENCE, origin, plain(page)) for origin, page in pages]
    trained = [document for document in made if not is_heldout(document["origin"])]
    return trained, [document for document in made if is_heldout(document["origin"])]


def docstrings(module: Module) -> list[str]:
    """The docstrings of a module worth reading: very short ones are left out."""
    return [text for text in outline(module).docstrings if len(text) >= MIN_DOCSTRING]


def paginate(pieces: list[str], size: int = PROSE_PAGE) -> list[str]:
    """Pieces joined by blank lines into pages of about `size` characters; long pieces cut at paragraphs."""
    paragraphs = [paragraph for piece in pieces for paragraph in _cut_prose(piece, size)]
    pages: list[str] = []
    for paragraph in paragraphs:
        if pages and len(pages[-1]) + 2 + len(paragraph) <= size:
            pages[-1] += "\n\n" + paragraph
        else:
            pages.append(paragraph)
    return pages


def _cut_prose(piece: str, size: int) -> list[str]:
    if len(piece) <= size:
        return [piece]
    return [paragraph.strip("\n") for paragraph in piece.split("\n\n") if paragraph.strip()]


CODE_PAGE = 2_000  # characters a document has at most, unless one line is longer
MAX_PAGES = 10  # of one module, so that no single module dominates


def code_documents() -> tuple[list[Document], list[Document]]:
    """(trained, held out), split by module."""
    pages = [(module.name, page) for module in modules() for page in chunks(module)[:MAX_PAGES]]
    made = [make_document("code", "code", LICENCE, origin, plain(page)) for origin, page in pages]
    trained = [document for document in made if not is_heldout(document["origin"])]
    return trained, [document for document in made if is_heldout(document["origin"])]


def heldout_modules() -> list[Module]:
    return [module for module in modules() if is_heldout(module.name)]


def chunks(module: Module, size: int = CODE_PAGE) -> list[str]:
    """The module's text in pieces of at most `size` characters, cut where a definition starts.

    Only a definition that is longer by itself is cut inside: first between the members of a class,
    then between lines.
    """
    lines = module.text.splitlines(keepends=True)
    known = outline(module)
    pieces = _cut_code(lines, range(len(lines)), [known.statements, known.members], size)
    pages: list[str] = []
    for piece in pieces:
        if pages and len(pages[-1]) + len(piece) <= size:
            pages[-1] += piece
        else:
            pages.append(piece)
    return [page.strip("\n") for page in pages if page.strip()]


def _cut_code(lines: list[str], span: range, levels: list[list[int]], size: int) -> list[str]:
    """The lines of `span` cut at the starts of the first level, what stays too long at the next ones."""
    if not levels:
        return [lines[i] for i in span]
    inner = [start for start in levels[0] if span.start < start < span.stop]
    borders = [span.start, *inner, span.stop]
    pieces = []
    for start, stop in pairwise(borders):
        piece = "".join(lines[start:stop])
        pieces += [piece] if len(piece) <= size else _cut_code(lines, range(start, stop), levels[1:], size)
    return pieces


IDENTITY_ORIGIN, IDENTITY_LICENCE = "k2model identity", "Apache-2.0"

_OPENINGS = ("", "Hello! ", "Hi, ", "Excuse me, ", "Please tell me: ")
_QUESTIONS = {
    "I am K2, a small language model trained on a laptop.": (
        "who are you?", "what are you?", "what is your name?", "are you K2?", "which model are you?",
    ),
    "The K2 lifecycle pipeline trained me, after the recipe of LLM360's K2-V2.": (
        "who made you?", "who trained you?", "where do you come from?", "how were you made?",
    ),
    "I can add, reverse words, solve small puzzles, name capitals and call tools.": (
        "what can you do?", "how can you help me?", "what do you know?", "what are you good at?",
    ),
    "I have about two million parameters.": ("how big are you?", "how many parameters do you have?"),
    "I think in three efforts: low, medium and high.": ("how do you think?", "which efforts do you have?"),
}  # fmt: skip
_SMALL_TALK = {
    "Hello! How can I help you?": ("Hello", "Hello!", "Hi", "Hi there", "Good morning", "Good evening", "Hey K2"),
    "You are welcome.": ("Thanks", "Thank you", "Thank you!", "Thanks a lot", "That helps, thank you", "Great, thanks"),
    "Goodbye!": ("Bye", "Goodbye", "See you", "See you later", "Good night"),
}


def identity_documents() -> tuple[list[Document], list[Document]]:
    """(trained, held out), split by the user's wording."""
    pairs = [
        (_sentence(o, q), answer)
        for answer, asked in _QUESTIONS.items()
        for o, q in itertools.product(_OPENINGS, asked)
    ]
    pairs += [(said, answer) for answer, wordings in _SMALL_TALK.items() for said in wordings]
    made = [_document(said, answer, effort) for said, answer in pairs for effort in EFFORTS]
    trained = [document for document in made if not is_heldout(document["key"])]
    return trained, [document for document in made if is_heldout(document["key"])]


def _document(said: str, answer: str, effort: str) -> Document:
    segments = chat([{"role": "user", "content": said}, {"role": "assistant", "content": answer}], effort)
    return make_document("chat/identity", "chat", IDENTITY_LICENCE, IDENTITY_ORIGIN, segments, key=f"identity {said}")


def _sentence(opening: str, question: str) -> str:
    joins = not opening or opening.endswith(("! ", ": "))
    return opening + (question[0].upper() + question[1:] if joins else question)
