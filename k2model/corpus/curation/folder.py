"""Curation of a corpus folder on one machine: all stages, in any number of processes. `steps` has them on a store."""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from k2model.artifacts import map_in_processes
from k2model.corpus.curation.clean import SIGNATURES, clean_part, profile_of
from k2model.corpus.curation.duplicates import band_links, exact_links, near_links, slices_for
from k2model.corpus.curation.funnel import summarise
from k2model.corpus.curation.places import Numbering, Place, places_in
from k2model.corpus.curation.selection import select_part
from k2model.corpus.curation.signatures import bands_of
from k2model.corpus.curation.verdicts import merge, write_verdict
from k2model.recipe.schema import CorpusConfig

POOL_DOCUMENTS = 500_000  # fewer are compared sooner than processes start


def curate_folder(raw: Path, folder: Path, config: CorpusConfig, workers: int = 1) -> dict[str, float]:
    """Curate the corpus in `raw` into `folder` in `workers` processes; returns counts.

    The same bytes for any number of workers. Held-out documents stand before trained ones, so that a training
    document which copies a held-out one is the one to go.
    """
    places, work = places_in(raw, [source.name for source in config.sources]), folder / "work"
    map_in_processes(partial(_cleaned, raw, work, config), places, workers)
    find_duplicates(work / SIGNATURES, places, config, work / "copies", workers)
    selected = partial(_selected, raw, work, Numbering.of(work / SIGNATURES, places), folder, config)
    map_in_processes(selected, places, workers)
    shutil.rmtree(work)
    shutil.copytree(raw / "items", folder / "items")
    return summarise(raw, folder, folder, places, config)


def find_duplicates(
    signatures: Path, places: Sequence[Place], config: CorpusConfig, folder: Path, workers: int = 1
) -> dict[str, float]:
    """Compare all documents by their signatures, and write into `folder` what `write_verdict` reads."""
    numbering = Numbering.of(signatures, places)
    parts, (bands, _) = slices_for(numbering.documents), bands_of(config)
    if numbering.documents < POOL_DOCUMENTS:
        workers = 1
    natural = tuple(source.name for source in config.sources if profile_of(source.name, config).natural)
    exact = [folder / "exact" / f"{part:04d}.parquet" for part in range(parts)]
    map_in_processes(partial(_exact, signatures, numbering, exact), range(parts), workers)
    near = [(folder / "bands" / f"{band:02d}-{part:04d}.parquet", band, part, parts)
            for band in range(bands) for part in range(parts)]  # fmt: skip
    map_in_processes(partial(_band, signatures, numbering, natural, config, exact), near, workers)
    near_links(signatures, numbering, config, [entry[0] for entry in near], folder / "near.parquet")
    return merge(signatures, numbering, exact, folder / "near.parquet", folder)


def _cleaned(raw: Path, work: Path, config: CorpusConfig, place: Place) -> dict[str, float]:
    return clean_part(raw, work, place, config)


def _selected(
    raw: Path, work: Path, numbering: Numbering, folder: Path, config: CorpusConfig, place: Place
) -> dict[str, float]:
    write_verdict(work / SIGNATURES, numbering, work / "copies", work / "verdicts", place)
    return select_part(raw, work, work / "verdicts", folder, place, config)


def _exact(signatures: Path, numbering: Numbering, files: Sequence[Path], part: int) -> dict[str, float]:
    return exact_links(signatures, numbering, files[part], part, len(files))


def _band(
    signatures: Path, numbering: Numbering, natural: Sequence[str], config: CorpusConfig, exact: Sequence[Path],
    entry: tuple[Path, int, int, int],
) -> dict[str, float]:  # fmt: skip
    out, band, part, parts = entry
    return band_links(signatures, numbering, natural, config, exact, out, band, part, parts)
