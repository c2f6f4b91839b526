"""Code: the standard library's modules, cut between definitions into documents of a page or two."""

from itertools import pairwise

from k2model.corpus.documents import Document, is_heldout, make_document
from k2model.corpus.markup import plain
from k2model.corpus.outline import outline
from k2model.corpus.standard_library import LICENCE, Module, modules

PAGE = 2_000  # characters a document has at most, unless one line is longer
MAX_PAGES = 10  # of one module, so that no single module dominates


def documents() -> tuple[list[Document], list[Document]]:
    """(trained, held out), split by module."""
    pages = [(module.name, page) for module in modules() for page in chunks(module)[:MAX_PAGES]]
    made = [make_document("code", "code", LICENCE, origin, plain(page)) for origin, page in pages]
    trained = [document for document in made if not is_heldout(document["origin"])]
    return trained, [document for document in made if is_heldout(document["origin"])]


def heldout_modules() -> list[Module]:
    return [module for module in modules() if is_heldout(module.name)]


def chunks(module: Module, size: int = PAGE) -> list[str]:
    """The module's text in pieces of at most `size` characters, cut where a definition starts.

    Only a definition that is longer by itself is cut inside: first between the members of a class,
    then between lines.
    """
    lines = module.text.splitlines(keepends=True)
    known = outline(module)
    pieces = _cut(lines, range(len(lines)), [known.statements, known.members], size)
    pages: list[str] = []
    for piece in pieces:
        if pages and len(pages[-1]) + len(piece) <= size:
            pages[-1] += piece
        else:
            pages.append(piece)
    return [page.strip("\n") for page in pages if page.strip()]


def _cut(lines: list[str], span: range, levels: list[list[int]], size: int) -> list[str]:
    """The lines of `span` cut at the starts of the first level, what stays too long at the next ones."""
    if not levels:
        return [lines[i] for i in span]
    inner = [start for start in levels[0] if span.start < start < span.stop]
    borders = [span.start, *inner, span.stop]
    pieces = []
    for start, stop in pairwise(borders):
        piece = "".join(lines[start:stop])
        pieces += [piece] if len(piece) <= size else _cut(lines, range(start, stop), levels[1:], size)
    return pieces
