"""What errors mean to the person at the terminal, above all a full disk, in the words of every library that writes."""

import errno
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from k2model.errors import DiskFull, K2Error, UsedUp, for_user, visible
from tests.servers import on_small_disk

WRITES = """
import json, sqlite3, sys
from pathlib import Path
import pytest

from k2model.errors import for_user

disk = Path(sys.argv[1])
(disk / "home").mkdir()
connection = sqlite3.connect(disk / "x.db")
connection.execute("CREATE TABLE x (y)")
connection.commit()
with (disk / "filler").open("wb", buffering=0) as file:
    try:
        while file.write(bytes(4096)):
            pass
    except OSError:
        pass

def plain():
    (disk / "plain").write_bytes(bytes(10000))

def parquet():
    import numpy as np, pyarrow as pa, pyarrow.parquet as pq
    pq.write_table(pa.table({"x": np.random.default_rng(0).random(10000)}), disk / "x.parquet")

def duckdb():
    import duckdb
    duckdb.sql(f"COPY (SELECT random() FROM range(100000)) TO '{disk}/y.parquet' (FORMAT parquet)")

def safetensors():
    import torch
    from safetensors.torch import save_file
    save_file({"x": torch.zeros(10000)}, disk / "x.safetensors")

def tokenizer():
    from tokenizers import Tokenizer, models
    Tokenizer(models.WordLevel({str(n): n for n in range(10000)}, unk_token="0")).save(str(disk / "tokenizer.json"))

def numpy():
    import numpy as np
    np.save(disk / "x.npy", np.zeros(10000))

def sqlite():
    connection.execute("INSERT INTO x VALUES (randomblob(100000))")
    connection.commit()

def new_sqlite():
    sqlite3.connect(disk / "new.db").execute("CREATE TABLE x (y)")

def sqlalchemy():
    import sqlalchemy
    with sqlalchemy.create_engine(f"sqlite:///{disk}/x.db").begin() as connection:
        try:
            connection.exec_driver_sql("INSERT INTO x VALUES (randomblob(100000))")
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise RuntimeError("the run could not be logged") from error

told = {}
for write in (plain, parquet, duckdb, safetensors, tokenizer, numpy, sqlite, new_sqlite, sqlalchemy):
    try:
        write()
        told[write.__name__] = ["nothing", ""]
    except Exception as error:
        said = for_user(error)
        told[write.__name__] = [type(said).__name__, str(said or repr(error))]
    for path in disk.glob("?*.*"):
        if path.name != "x.db":
            path.unlink()
print(json.dumps(told))
"""


def test_a_full_disk_is_told_of_in_one_way(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    command = [sys.executable, "-c", WRITES, str(disk)]
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.getcwd(),
        "K2_HOME": str(disk / "home"),
        "TMPDIR": str(tmp_path),
    }
    result = subprocess.run(
        on_small_disk(disk, "512k", command), env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert {name: kind for name, (kind, _) in told.items()} == dict.fromkeys(told, "DiskFull"), told
    for _, text in told.values():
        assert f"{disk} (0.0 of 1 MB free)" in text and "free some space there" in text
        assert "K2_STORE (" not in text, "it lies in K2_HOME"
    assert f"for K2_HOME ({disk}/home)." in told["sqlite"][1]


def test_of_a_known_file_only_its_disk_is_named() -> None:
    told = for_user(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/proc/x/y.bin"))
    assert "Nothing more can be written on /proc (" in str(told) and "for /proc/x/y.bin." in str(told)
    assert "K2_HOME (" not in str(told)


def test_an_error_while_a_full_disk_was_handled_is_of_the_full_disk() -> None:
    error = ValueError("cannot clean up")
    error.__context__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert isinstance(for_user(error), DiskFull)


def test_what_an_error_of_ours_led_to_is_told_as_ours_and_a_bug_is_not() -> None:
    ours = K2Error("shard x is corrupt")
    wrapped = RuntimeError("a task failed")
    wrapped.__cause__ = ours
    assert for_user(ours) is ours and for_user(wrapped) is ours
    while_handled = KeyError("a bug")
    while_handled.__context__ = ours
    for bug in (
        KeyError("x"),
        while_handled,
        sqlite3.OperationalError("disk I/O error"),
        FileNotFoundError(2, "x", "y"),
    ):
        assert for_user(bug) is None


def test_what_a_model_wrote_orders_nothing_about() -> None:
    assert visible("\x1b[31mred\x00\x07\tand\nso \x9b2J \u202eback") == "␛[31mred␀␇\tand\nso \ufffd2J <U+202E>back"
    assert visible("Tür 東 😀") == "Tür 東 😀"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "raise `ulimit -v`"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"), "ulimit -v"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "ulimit -v"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/x"), "ulimit -n"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), "ulimit -f"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
    ],
)
def test_what_is_used_up_is_told_with_what_to_do(error: Exception, words: str) -> None:
    told = for_user(error)
    assert isinstance(told, UsedUp) and words in str(told) and "run the same command again" in str(told)
    wrapped = ValueError("of a library")
    wrapped.__cause__ = error
    assert isinstance(for_user(wrapped), UsedUp)
    assert for_user(OSError(errno.EBADF, "a bug")) is None and for_user(BlockingIOError(errno.EAGAIN, "x")) is None
