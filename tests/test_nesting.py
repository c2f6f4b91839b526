"""Files of people and of strangers that are nested without end, or name values that are none: an error with a name."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from k2model.errors import K2Error
from k2model.export.architecture import parse_config
from k2model.export.weights import read_header, weights_files
from k2model.recipe import chosen_recipe
from k2model.recipe.task_files import read_tasks
from k2model.synthesis import load_job
from k2model.tokens import K2Tokenizer

DEEP = "[" * 200_000
#: Nine names for nine times as much each: a few lines that say 9**10 values.
BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 11)
)  # fmt: skip


def tasks(text: str, folder: Path) -> object:
    (folder / "tasks.yaml").write_text(text)
    return read_tasks(str(folder / "tasks.yaml"))


def job(text: str, folder: Path) -> object:
    (folder / "job.toml").write_text(text)
    return load_job(folder / "job.toml")


def header(text: str, _: Path) -> object:
    data = struct.pack("<Q", len(text)) + text.encode()
    return read_header(io.BytesIO(data), len(data) + 4, "model.safetensors", "x")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "read, text",
    [
        (tasks, "[" * 5_000), (tasks, "a: " + "{a: " * 5_000), (tasks, "a: 2026-99-99"),
        (tasks, BOMB + "name: *a10\n"), (tasks, f"{BOMB}*a10 : x\n"),
        (job, f"a = {'[' * 5_000}"), (job, "a = 1979-99-99"),
        *((lambda text, _: parse_config(text.encode(), "x"), text) for text in (DEEP, "[]", '{"a": 1, "a": 2}')),
        *((header, text) for text in (DEEP, "[]", '{"a": 3}', '{"__metadata__": 1, "a": ' + DEEP)),
        *((lambda text, _: weights_files(["a"], text.encode(), "x"), text)
          for text in (DEEP, '{"weight_map": []}', '{"weight_map": {"a": "../b"}}')),
        *((lambda text, _: K2Tokenizer(text), text) for text in (DEEP, "[]", "{}", '{"added_tokens": [1]}', "x")),
        (lambda text, _: chosen_recipe("smoke", {"corpus.sources.+": text}), DEEP),
    ],
)  # fmt: skip
def test_it_is_named(read: Callable[[str, Path], object], text: str, tmp_path: Path) -> None:
    with pytest.raises(K2Error) as caught:
        read(text, tmp_path)
    assert len(str(caught.value)) < 3_000
