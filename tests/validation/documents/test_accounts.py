"""Every row of a source that was read from files is accounted for in the gate on the raw corpus."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from k2model.artifacts import Store, make
from k2model.ingest.raw import ACCOUNTS_FILE, raw_step
from k2model.recipe.schema import CorpusConfig, SourceConfig, ValidationConfig
from k2model.validation.documents import ValidationFailed, raw_checks_step
from tests.ingest.samples import write_jsonl
from tests.validation.gates import as_artifact

CONFIG = CorpusConfig(
    sources=(SourceConfig("web/cc", domain="prose", licence="MIT", heldout=0.2, sample=0.8, max_quarantined=0.3),),
    heldout_items=1,
    part_bytes=700,
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw corpus of one source in three parts, with rows of every fate."""
    home = tmp_path_factory.mktemp("raw")
    rows = [{"text": f"row {i} says something"} if i % 9 else b"{broken" for i in range(60)]
    write_jsonl(home / "in/a.jsonl", [*rows, b"", {"text": "  "}])
    sources = tuple(replace(source, location=str(home / "in")) for source in CONFIG.sources)
    return Path(make(Store.open(home / "store"), raw_step(replace(CONFIG, sources=sources))).uri)


def checked(folder: Path, home: Path) -> dict[str, float]:
    store = Store.open(home)
    return make(store, raw_checks_step(store, ValidationConfig(), as_artifact(store, "corpus_raw", folder))).stats


def test_all_rows_of_all_parts_are_accounted_for(raw: Path, tmp_path: Path) -> None:
    (parts,) = json.loads((raw / ACCOUNTS_FILE).read_text()).values()
    assert len(parts) == 3 and sum(part["rows"] for part in parts.values()) == 61
    fates = {name: sum(part[name] for part in parts.values()) for name in next(iter(parts.values()))}
    assert min(fates.values()) > 0 and fates.pop("rows") == sum(fates.values())
    assert checked(raw, tmp_path)["warnings"] == 0


def test_files_without_accounts_or_accounts_without_files_do_not_pass(raw: Path, tmp_path: Path) -> None:
    for number, (split, change) in enumerate(
        (split, change) for split in ("train", "heldout", "quarantine") for change in ("row", "file")
    ):
        folder = tmp_path / f"corpus-{number}"
        shutil.copytree(raw, folder)
        path = folder / split / "web-cc/00001.parquet"
        table = pq.read_table(path, partitioning=None)
        path.unlink()
        if change == "row":
            pq.write_table(table.slice(1), path)
        with pytest.raises(ValidationFailed, match=r"rows_accounted_for"):
            checked(folder, tmp_path / f"store-{number}")


@pytest.mark.parametrize("name", ["rows", "documents", "heldout", "sampled_out", "quarantined"])
def test_a_miscount_stops(name: str, raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    shutil.copytree(raw, folder)
    accounts = json.loads((folder / ACCOUNTS_FILE).read_text())
    accounts["web-cc"]["00002"][name] += 1
    (folder / ACCOUNTS_FILE).unlink()
    (folder / ACCOUNTS_FILE).write_text(json.dumps(accounts))
    with pytest.raises(ValidationFailed, match=r"rows_accounted_for(?s:.*)web-cc") as failed:
        checked(folder, tmp_path / "store")
    assert "00002" in str(failed.value) and "00001" not in str(failed.value)
