"""Many parts, shared out among few workers, without their descriptions passing through whoever starts the workers.

An orchestrator carries every item of a map in its own state: some thousands are what it bears, while a corpus of
trillions of tokens has hundreds of thousands of parts. So parts are shared out, and a share is a small file beside the
artifacts (`_listed/<step>/<key[:16]>/<share>.json`), called by the digest of what it lists: who shares out the same
parts again finds it there, and two runs that found different parts missing do not disturb each other. They go when the
artifact is gathered.
"""

import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256

from k2model.artifacts.files import Files
from k2model.artifacts.manifest import MANIFEST, MOST
from k2model.artifacts.outside import read_small
from k2model.artifacts.parts import Part
from k2model.artifacts.steps import LISTED, PartedStep, make_part_at, map_in_processes, missing_parts
from k2model.artifacts.store import Store
from k2model.errors import CorruptArtifact, InputsChanged
from k2model.plain import NotPlain, read_as

WRITERS = 16  # threads


def shared_out(store: Store, step: PartedStep, size: int, most: int) -> list[str]:
    """The names of at most `most` shares of the parts that are to be made, of `size` parts each, or more where these
    would be too many shares; none when the artifact is there."""
    parts = missing_parts(store, step)
    size = max(size, math.ceil(len(parts) / most), 1)
    texts = [_written(parts[start : start + size]) for start in range(0, len(parts), size)]
    folder = _folder(store, step.identity.name)
    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(partial(_keep, folder), texts))


def make_share(store: Store, step: PartedStep, artifact: str, share: str, workers: int) -> None:
    """Makes the parts of a share of `artifact` (`<step>/<key[:16]>`) that are not there yet, in `workers` processes.

    Nothing is left to do when another run has gathered the artifact meanwhile. Raises what making a part raises, and
    InputsChanged when the share is gone and the artifact is not there.
    """
    try:
        listed = _listed(_folder(store, artifact), share)
    except FileNotFoundError:
        if store.files_of(artifact).exists(MANIFEST):
            return
        raise InputsChanged(
            f"{artifact}: its list of parts {share} is gone, and the artifact is not there either. Run again: what is "
            "missing is listed anew"
        ) from None
    parts = [Part(*one) for one in listed]
    map_in_processes(partial(make_part_at, store.uri, artifact, step.produce), parts, workers)


def _written(parts: Sequence[Part]) -> bytes:
    return json.dumps([[part.name, part.task] for part in parts]).encode()


def _listed(folder: Files, share: str) -> tuple[tuple[str, str], ...]:
    """(Name, task) of each part: as they were written, since the share is called by the digest of what it lists."""
    path = f"{share}.json"
    try:
        text = read_small(folder, path, MOST)
        if sha256(text).hexdigest()[:16] != share:
            raise NotPlain("it lists other parts than it did when it was written")
        return read_as(tuple[tuple[str, str], ...], text, MOST)
    except NotPlain as error:
        raise CorruptArtifact(
            f"{folder.uri}/{path} is not a list of parts ({error}). Delete it and run again: what is missing is listed "
            "anew"
        ) from error


def _keep(folder: Files, text: bytes) -> str:
    name = sha256(text).hexdigest()[:16]
    folder.write(f"{name}.json", text)
    return name


def _folder(store: Store, artifact: str) -> Files:
    return store.files_of(f"{LISTED}/{artifact}")
