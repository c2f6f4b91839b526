"""Text of a corpus by domain, as much as a comparison needs and no more."""

from collections.abc import Iterator

from k2model.planning.holdings import Holding, LookingError, TableFile

COLUMNS = ["domain", "segments"]


def texts_by_domain(holding: Holding, side: str, limit: int) -> dict[str, list[str]]:
    """The first text segments of each source of `holding`, at most about `limit` UTF-8 bytes of a source.

    Reads row groups until a source has given its part, so that a corpus in an object store is not fetched. Documents
    are taken in their order, whole: a source gives at least one. Raises LookingError when these are no documents.
    """
    texts: dict[str, list[str]] = {}
    left: dict[str, int] = {}
    for path in holding.tables(side):
        source = path.rpartition("/")[0] or path
        if left.setdefault(source, limit) <= 0:
            continue
        for domain, segments in _documents(holding, path):
            texts.setdefault(domain, []).extend(segments)
            left[source] -= sum(len(text.encode("utf-8")) for text in segments)
            if left[source] <= 0:
                break
    if not any(texts.values()):
        raise LookingError(f"{holding.name}: no text on the side '{side}'; name a corpus, or measure the other side")
    return {domain: texts[domain] for domain in sorted(texts)}


def _documents(holding: Holding, path: str) -> Iterator[tuple[str, list[str]]]:
    """Domain and non-empty text segments of each document of a file."""
    file = TableFile(holding.files, path)
    if missing := set(COLUMNS) - set(file.names):
        raise LookingError(
            f"{holding.name}/{path} has no column '{min(missing)}'; expected the documents of a corpus, not its tokens"
        )
    for group in range(file.groups):
        for row in file.read(group, COLUMNS).to_pylist():
            yield row["domain"], [s["text"] for s in row["segments"] if s["kind"] == "text" and s["text"]]
