"""Prose: docstrings of the standard library, and the topics of Python's interactive help.

Short docstrings of a module are put together, long texts are cut between paragraphs, so that a
document is a page rather than a line or a book.
"""

from k2model.corpus.documents import Document, is_heldout, make_document
from k2model.corpus.markup import plain
from k2model.corpus.outline import outline
from k2model.corpus.standard_library import LICENCE, Module, modules

PAGE = 1_500  # characters a document aims at
MIN_DOCSTRING = 60


def documents() -> tuple[list[Document], list[Document]]:
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


def paginate(pieces: list[str], size: int = PAGE) -> list[str]:
    """Pieces joined by blank lines into pages of about `size` characters; long pieces cut at paragraphs."""
    paragraphs = [paragraph for piece in pieces for paragraph in _cut(piece, size)]
    pages: list[str] = []
    for paragraph in paragraphs:
        if pages and len(pages[-1]) + 2 + len(paragraph) <= size:
            pages[-1] += "\n\n" + paragraph
        else:
            pages.append(paragraph)
    return pages


def _cut(piece: str, size: int) -> list[str]:
    if len(piece) <= size:
        return [piece]
    return [paragraph.strip("\n") for paragraph in piece.split("\n\n") if paragraph.strip()]
