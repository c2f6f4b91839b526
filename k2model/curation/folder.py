"""Curation of a corpus folder on one machine: all stages, in any number of processes. `steps` has them on a store."""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from k2model.artifacts import map_in_processes
from k2model.curation.clean import clean_part, natural_sources
from k2model.curation.decisions import merge, write_verdict
from k2model.curation.duplicates import SLICE_ROWS, band_links, band_slices, exact_links, exact_slices, near_links
from k2model.curation.funnel import summarise
from k2model.curation.overlap import ItemFile, item_files
from k2model.curation.parts import Numbering, Place, places_in
from k2model.curation.selection import select_part
from k2model.curation.signatures import SIGNATURES, Signed
from k2model.recipe.schema import CorpusConfig


def curate_folder(raw: Path, folder: Path, config: CorpusConfig, workers: int = 1) -> dict[str, float]:
    """Curate the corpus in `raw` into `folder` in `workers` processes; returns counts.

    The same bytes for any number of workers. Held-out documents stand before trained ones, so that a training
    document which copies a held-out one is the one to go.
    """
    places, work = places_in(raw, [source.name for source in config.sources]), folder / "work"
    items = item_files(config.decontamination.external)
    map_in_processes(partial(_cleaned, raw, work, config), places, workers)
    find_duplicates(work, places, config, work / "copies", workers)
    selected = partial(_selected, raw, work, Numbering.of(work / SIGNATURES, places), folder, config, items)
    map_in_processes(selected, places, workers)
    shutil.rmtree(work)
    shutil.copytree(raw / "items", folder / "items")
    return summarise(raw, folder, folder, places, config, items)


def find_duplicates(
    cleaned: Path, places: Sequence[Place], config: CorpusConfig, folder: Path, workers: int = 1,
    slice_rows: int = SLICE_ROWS,
) -> dict[str, float]:  # fmt: skip
    """Compare all documents by their signatures below `cleaned`, and write into `folder` what `write_verdict` reads.

    The same bytes for any number of workers and any size of slices."""
    signed, natural = Signed.of(cleaned, places), natural_sources(config)
    exact = _files(folder / "exact", exact_slices(signed.numbering, slice_rows))
    map_in_processes(partial(_exact, signed, exact), range(len(exact)), workers)
    bands = _files(folder / "bands", band_slices(signed.numbering, natural, config, slice_rows))
    map_in_processes(partial(_bands, signed, natural, config, exact, bands), range(len(bands)), workers)
    near_links(signed, config, bands, folder / "near.parquet")
    return merge(signed, exact, folder / "near.parquet", folder)


def _cleaned(raw: Path, work: Path, config: CorpusConfig, place: Place) -> dict[str, float]:
    return clean_part(raw, work, place, config)


def _selected(
    raw: Path, work: Path, numbering: Numbering, folder: Path, config: CorpusConfig, items: tuple[ItemFile, ...],
    place: Place,
) -> dict[str, float]:  # fmt: skip
    write_verdict(work, numbering, work / "copies", work / "verdicts", place)
    return select_part(raw, work, work / "verdicts", folder, place, config, items)


def _files(folder: Path, slices: int) -> list[Path]:
    return [folder / f"{part:05d}.parquet" for part in range(slices)]


def _exact(signed: Signed, files: Sequence[Path], part: int) -> dict[str, float]:
    return exact_links(signed, files[part], part, len(files))


def _bands(
    signed: Signed, natural: Sequence[str], config: CorpusConfig, exact: Sequence[Path], files: Sequence[Path],
    part: int,
) -> dict[str, float]:  # fmt: skip
    return band_links(signed, natural, config, exact, files[part], part, len(files))
