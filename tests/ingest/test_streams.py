"""Streams: a failing storage is never taken for the end of a file, and memory does not grow with the input."""

import io
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from k2model.errors import CorpusError
from k2model.ingest import ingest_part, list_inputs, split_inputs
from k2model.ingest.storage import SourceFiles, _Guarded
from tests.ingest.samples import WHOLE, source, write_jsonl

ROOT = Path(__file__).parents[2]
MEASURE = """
import resource, sys
from pathlib import Path
from k2model.ingest import ingest_part, list_inputs, split_inputs
from k2model.recipe.schema import SourceConfig
config = SourceConfig("x", location=sys.argv[1], domain="prose", licence="unknown", max_row_bytes=1_000_000)
(part,) = split_inputs(config, list_inputs(config), 10**12)
ingest_part(config, part, Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


class Failing(io.BytesIO):
    """A connection that breaks after some bytes."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > 0:
            raise OSError("connection reset by peer")
        return super().read(50_000)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.jsonl"])
def test_a_connection_that_breaks_is_an_error_and_no_short_file(name, tmp_path, monkeypatch):
    write_jsonl(tmp_path / name, [{"text": f"row {i} {i * 7919 % 100_003}"} for i in range(60_000)])
    config = source(tmp_path)
    (part,) = split_inputs(config, list_inputs(config), WHOLE)
    content = (tmp_path / name).read_bytes()
    monkeypatch.setattr(
        SourceFiles, "open", lambda *_: io.BufferedReader(_Guarded(Failing(content), "s3://b/a"), 1_000)
    )
    with pytest.raises(CorpusError, match="cannot read s3://b/a: OSError: connection reset"):
        ingest_part(config, part, tmp_path / "out")


def test_memory_does_not_grow_with_the_input_nor_with_one_endless_row(tmp_path):
    peaks = {}
    line = b'{"text": "' + b"some words of a page, " * 100 + b'"}\n'
    for name, count in (("small", 10_000), ("large", 80_000)):
        (tmp_path / name).mkdir()
        with pa.CompressedOutputStream(str(tmp_path / name / "a.jsonl.zst"), "zstd") as file:
            for _ in range(0, count, 1_000):
                file.write(line * 1_000)  # 22 MB and 177 MB
            if name == "large":
                for _ in range(100):
                    file.write(b"x" * 1_000_000)
        command = [sys.executable, "-c", MEASURE, str(tmp_path / name), str(tmp_path / f"{name}-out")]
        peaks[name] = int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    assert peaks["large"] < peaks["small"] + 120, peaks
