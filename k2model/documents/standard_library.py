"""Prose and code of the running Python's standard library, as documents.

Prose is docstrings and the topics of Python's interactive help: short ones of a module are put together, long texts are
cut between paragraphs, so that a document is a page rather than a line or a book. Code is the modules themselves, cut
between definitions. Left out are tests, bundled wheels, platform build data, and files that are tables rather than
text (codec maps, generated data). One module is one origin: all its text, code and docstrings alike, falls into one
split.
"""

import ast
import hashlib
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from k2model.documents.markup import plain
from k2model.documents.schema import Document, is_heldout, make_document

LICENCE = "PSF-2.0"
MAX_MODULE_BYTES = 250_000
PROSE_PAGE = 1_500  # characters a document of prose aims at
CODE_PAGE = 2_000  # characters a document of code has at most, unless one line is longer
MIN_DOCSTRING = 60  # characters
MAX_PAGES = 10  # of code of one module, so that no single module dominates
_SKIPPED_FOLDERS = {
    "__pycache__", "ensurepip", "lib-dynload", "idle_test", "pydoc_data", "site-packages", "dist-packages",
    "test", "tests", "encodings", "turtledemo", "lib2to3", "idlelib",
}  # fmt: skip
_SKIPPED_PREFIXES = ("_sysconfigdata", "config-", "__phello__", "__hello__", "this.py", "antigravity.py")


class Module(NamedTuple):
    name: str  # dotted
    text: str


@lru_cache(maxsize=1)
def modules() -> tuple[Module, ...]:
    """The source of every module read, by name. The order is that of the names."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = (path for path in root.rglob("*.py") if _is_read(path.relative_to(root)))
    texts = {_dotted(path.relative_to(root)): _text(path) for path in paths}
    return tuple(Module(name, text) for name, text in sorted(texts.items()) if text)


def digest() -> str:
    """sha256 over all that is read here: two distributions of one Python version may differ."""
    from pydoc_data.topics import topics

    state = hashlib.sha256()
    for name, text in (*modules(), *sorted(topics.items())):
        state.update(f"{name}\0{text}\0".encode("utf-8", "surrogatepass"))
    return state.hexdigest()


def prose_documents() -> tuple[list[Document], list[Document]]:
    """(trained, held out), split by module or topic. Raises `SyntaxError` when a module is not Python."""
    from pydoc_data.topics import topics

    texts = [(m.name, [text for text in outline(m).docstrings if len(text) >= MIN_DOCSTRING]) for m in modules()]
    texts += [(f"pydoc_data.topics.{name}", [topics[name].strip()]) for name in sorted(topics)]
    pages = [(origin, page) for origin, pieces in texts for page in _prose_pages(pieces)]
    made = [make_document("prose", "prose", LICENCE, origin, plain(page)) for origin, page in pages]
    return _by_origin(made)


def _prose_pages(pieces: list[str]) -> list[str]:
    """Pieces joined by blank lines into pages; those longer than a page are cut at paragraphs."""
    paragraphs: list[str] = []
    for piece in pieces:
        long = len(piece) > PROSE_PAGE
        paragraphs += [part.strip("\n") for part in piece.split("\n\n") if part.strip()] if long else [piece]
    return _joined(paragraphs, PROSE_PAGE, "\n\n")


def _joined(pieces: Sequence[str], size: int, separator: str = "") -> list[str]:
    """Neighbouring pieces put together into pages of at most `size` characters, where a piece is not longer itself."""
    pages: list[str] = []
    for piece in pieces:
        if pages and len(pages[-1]) + len(separator) + len(piece) <= size:
            pages[-1] += separator + piece
        else:
            pages.append(piece)
    return pages


def code_documents() -> tuple[list[Document], list[Document]]:
    """(trained, held out), split by module."""
    pages = [(module.name, page) for module in modules() for page in _code_pages(module)[:MAX_PAGES]]
    made = [make_document("code", "code", LICENCE, origin, plain(page)) for origin, page in pages]
    return _by_origin(made)


def _by_origin(made: list[Document]) -> tuple[list[Document], list[Document]]:
    """(trained, held out), decided by the origin."""
    trained = [document for document in made if not is_heldout(document["origin"])]
    return trained, [document for document in made if is_heldout(document["origin"])]


def heldout_modules() -> list[Module]:
    return [module for module in modules() if is_heldout(module.name)]


def _code_pages(module: Module) -> list[str]:
    """The module's text in pieces of at most `CODE_PAGE` characters, cut where a definition starts.

    Only a definition that is longer by itself is cut inside: first between the members of a class,
    then between lines.
    """
    lines = module.text.splitlines(keepends=True)
    known = outline(module)
    pieces = _cut(lines, range(len(lines)), [known.statements, known.members])
    return [page.strip("\n") for page in _joined(pieces, CODE_PAGE) if page.strip()]


def _cut(lines: list[str], span: range, levels: list[list[int]]) -> list[str]:
    """The lines of `span` cut at the starts of the first level, what stays too long at the next ones."""
    if not levels:
        return [lines[i] for i in span]
    inner = [start for start in levels[0] if span.start < start < span.stop]
    borders = [span.start, *inner, span.stop]
    pieces = []
    for start, stop in pairwise(borders):
        piece = "".join(lines[start:stop])
        pieces += [piece] if len(piece) <= CODE_PAGE else _cut(lines, range(start, stop), levels[1:])
    return pieces


def _is_read(path: Path) -> bool:
    if any(part in _SKIPPED_FOLDERS for part in path.parts[:-1]):
        return False
    return not any(part.startswith(_SKIPPED_PREFIXES) for part in path.parts)


def _text(path: Path) -> str:
    """The file's text; empty when it is too large or not UTF-8."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8") if len(content) <= MAX_MODULE_BYTES else ""
    except UnicodeDecodeError:
        return ""


def _dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class Outline(NamedTuple):
    docstrings: list[str]  # of the module, its classes and functions in order, dedented
    statements: list[int]  # 0-based first lines of the top-level statements, decorators included
    members: list[int]  # the same of the statements in top-level classes


@cache
def outline(module: Module) -> Outline:
    """Raises `SyntaxError` when the module is not Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in old modules
        tree = ast.parse(module.text)
    members = [node for body in tree.body if isinstance(body, ast.ClassDef) for node in body.body]
    found = (ast.get_docstring(node) for node in (tree, *_definitions(tree.body)))
    return Outline([text for text in found if text], _starts(tree.body), _starts(members))


def _definitions(body: Sequence[ast.stmt]) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Classes and functions among the statements and inside them, in order of their lines."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        for name in ("body", "handlers", "orelse", "finalbody"):
            yield from _definitions(getattr(node, name, ()))


def _starts(nodes: Sequence[ast.stmt]) -> list[int]:
    decorators = (getattr(node, "decorator_list", []) for node in nodes)
    pairs = zip(nodes, decorators, strict=True)
    return sorted({min([node.lineno, *(d.lineno for d in above)]) - 1 for node, above in pairs})
