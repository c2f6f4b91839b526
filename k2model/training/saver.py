"""Saving while training goes on: a snapshot in memory, then a thread a worker that writes it to the store.

    begin(...)            all workers: wait for the save before, copy the state, start writing
    act_on(totals)        all workers, after every step: has everyone written, by the sum of all `report`s? then publish
    finish(seconds)       all workers: wait for the save in flight

The snapshot is the only time training is blocked. Writing, retries, the manifest and retention happen on
threads, which never talk to other workers: they are told apart by counts that the main threads add up, so
all workers decide alike. What a store that fails means:

* training goes on and the write is tried again, until the next save is due;
* then a checkpoint that only serves to resume is dropped for the newer one;
* one that is kept for good, `final/`, and the `keep_last`-th failure in a row are waited for, up to the
  deadline, and then end training with StoreWriteError.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.distributed as dist

from k2model.artifacts import ArtifactError, FileEntry, StoreWriteError
from k2model.artifacts.files import Files
from k2model.recipe.schema import CheckpointConfig
from k2model.training.background import Background, Stage, say
from k2model.training.checkpoint import (
    Piece,
    Progress,
    ShardImage,
    discard_after,
    is_final,
    is_kept_for_good,
    prune,
    publish,
    remove_checkpoint,
    shard_name,
    write_file,
)
from k2model.training.checkpoint.shard import header_of
from k2model.training.world import World

_FIRST_LOOK, _LONGEST_LOOK = 0.002, 0.05  # seconds between two looks at a save that is waited for


class State(Protocol):
    """What is saved: pieces of named tensors, always laid out alike."""

    def pieces(self) -> list[Piece]: ...


class _Save:
    """One checkpoint on its way: this worker's file, then on rank 0 the manifest."""

    def __init__(self, folder: str, progress: Progress, kept: bool, writing: Background[FileEntry]) -> None:
        self.folder, self.progress, self.kept, self.writing = folder, progress, kept, writing
        self.began = time.monotonic()
        self.published = False  # the entries of all workers are gathered
        self.publishing: Background[None] | None = None  # rank 0 alone

    @property
    def job(self) -> Background:
        return self.publishing or self.writing

    def give_up(self) -> list:
        jobs = [self.writing] + ([self.publishing] if self.publishing is not None else [])
        return [job.give_up() for job in jobs]


class Saver:
    """Of one worker. `files`: at the artifact. At most one save is in flight.

    `guard` is called on rank 0's thread before anything is written or published and raises when this job may
    not write any more; `published` after each manifest. `ended` is told on every worker how each save came out: its
    step, seconds since it was begun, whether it is in the store. `rollback_before`: set by the training loop while it
    may have to go back to a checkpoint of that step or less, so that it is not pruned.
    """

    def __init__(
        self, files: Files, world: World, config: CheckpointConfig,
        guard: Callable[[], None] = lambda: None, published: Callable[[], None] = lambda: None,
        ended: Callable[[int, float, bool], None] = lambda step, seconds, published: None,
    ) -> None:  # fmt: skip
        self.files, self.world, self.config = files, world, config
        self.guard, self.published, self.ended = guard, published, ended
        self.rollback_before: int | None = None
        self._save: _Save | None = None
        self._image: ShardImage | None = None
        self._user: Background[FileEntry] | None = None  # of the image
        self._failures = 0  # saves in a row that were dropped

    def reserve(self, state: State) -> None:
        """Take the memory of the snapshot ahead of the first save."""
        self._image_for(state.pieces())

    def begin(self, folder: str, state: State, progress: Progress, deadline: float | None = None) -> None:
        """Copy `state` and start writing it to `folder`. Collective.

        `deadline`: seconds to wait for a save in flight, by default the configured one.
        Raises StoreWriteError on all workers when that one may not be dropped and does not succeed.
        """
        self._wait_until_idle(self._seconds(deadline), must=False)
        pieces = state.pieces()
        image = self._image_for(pieces)
        image.fill(pieces)
        path = f"{folder}/{shard_name(self.world)}"

        def write() -> FileEntry:
            if self.world.first:
                self.guard()
            return write_file(self.files, path, image.data)

        def undo() -> None:
            if self.world.first:
                self.guard()
            self.files.remove(path)

        self._user = Background(f"writing {self.files.uri}/{path}", write, undo)
        kept = is_final(folder) or is_kept_for_good(progress.step, self.config)
        self._save = _Save(folder, progress, kept, self._user)

    def save(self, folder: str, state: State, progress: Progress, deadline: float | None = None) -> None:
        """The same, until it is published: `begin` and `finish` within one deadline."""
        ends = time.monotonic() + self._seconds(deadline)
        self.begin(folder, state, progress, deadline)
        self.finish(round(max(ends - time.monotonic(), 0.0), 1))

    def finish(self, deadline: float | None = None) -> None:
        """Wait until the save in flight, if any, is published. Collective.

        Raises StoreWriteError on all workers after `deadline` seconds.
        """
        self._wait_until_idle(self._seconds(deadline), must=True)

    def report(self) -> list[int]:
        """What `act_on` wants to know, to be added up over all workers: written, published, failing, broken."""
        save = self._save
        if save is None:
            return [0, 0, 0, 0]
        published = save.published and (save.publishing is None or save.publishing.stage is Stage.DONE)
        stages = [Stage.FAILING, Stage.BROKEN]
        return [int(save.writing.stage is Stage.DONE), int(published), *(int(save.job.stage is s) for s in stages)]

    def act_on(self, totals: Sequence[int]) -> None:
        """Act on the sums of all workers' reports: publish, or note that it is published. Collective: all call it
        with the same sums, at the same step. Raises what broke a worker's write, on all workers."""
        save = self._save
        if save is None:
            return
        written, published, _, broken = (int(total) for total in totals)
        if broken:
            self._raise_broken(save)
        if published == self.world.size:
            self._save, self._failures = None, 0
            self._tell(save, published=True)
        elif written == self.world.size and not save.published:
            self.publish()

    def publish(self) -> None:
        """Hand the entries of all workers' files to rank 0's thread, which writes the manifest. Collective, once
        all have written."""
        save = self._save
        assert save is not None and save.writing.result is not None
        own = save.writing.result
        shards = self.world.all_gather(lambda: own)
        save.published = True
        if self.world.first:
            what = f"publishing {self.files.uri}/{save.folder}"

            def undo() -> None:
                self.guard()
                remove_checkpoint(self.files, save.folder)

            save.publishing = Background(what, lambda: self._publish(save, shards), undo)

    def discard_after(self, step: int, deadline: float | None = None) -> None:
        """Give up the save in flight and remove all checkpoints of later steps than `step`, before training goes
        back to it. Collective. Raises StoreWriteError on all workers."""
        seconds = self._seconds(deadline)
        if self._save is not None and self._save.progress.step > step:
            threads = self._save.give_up()
            self._save = None
            for thread in threads:
                thread.join(seconds)
            if any(self.world.all_gather(lambda: any(thread.is_alive() for thread in threads))):
                raise StoreWriteError(f"a write to {self.files.uri} that was given up has not ended in {seconds:g} s")

        def remove() -> None:
            what = f"removing checkpoints of {self.files.uri} after step {step}"
            job = Background(what, lambda: discard_after(self.files, step, self.guard))
            if not job.wait(seconds):
                job.give_up()
                raise StoreWriteError(
                    f"{what} did not succeed in {seconds:g} s: {job.error or 'the store is too slow'}"
                )

        self.world.broadcast(remove)

    def close(self) -> None:
        """Give up what is in flight, without waiting: for the way out after an error."""
        if self._save is not None:
            self._save.give_up()
            self._save = None

    def _publish(self, save: _Save, shards: Sequence[FileEntry]) -> None:
        self.guard()
        publish(self.files, save.folder, shards, save.progress)
        self.published()
        try:
            prune(self.files, self.config, self.rollback_before)
        except (ArtifactError, OSError) as error:  # the checkpoint is there; the next one prunes again
            say(f"older checkpoints of {self.files.uri} could not be removed: {error}")

    def _wait_until_idle(self, seconds: float, must: bool) -> None:
        """Wait until no save is in flight: it is published, or dropped where it may be, or training ends."""
        if self._save is None:
            return
        last_chance = self._failures + 1 >= max(self.config.keep_last, 1)
        must = must or self._save.kept or last_chance
        ends, pause = time.monotonic() + seconds, _FIRST_LOOK
        while self._save is not None:
            late = time.monotonic() >= ends
            *report, anyone_late = self._sum([*self.report(), int(late)])
            self.act_on(report)
            if self._save is None:
                return
            failing = report[2] > 0
            if (failing or anyone_late) and not must:
                return self._drop()
            if anyone_late:
                self._fail(seconds)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK)

    def _drop(self) -> None:
        save = self._save
        assert save is not None
        self._failures += 1
        trouble = self._trouble()
        if self.world.first:
            say(f"checkpoint {save.folder} of {self.files.uri} is dropped for a newer one: {trouble}")
        self.close()
        self._tell(save, published=False)

    def _fail(self, seconds: float) -> None:
        save = self._save
        assert save is not None
        trouble = self._trouble()
        self.close()
        self._tell(save, published=False)
        raise StoreWriteError(
            f"checkpoint {save.folder} of {self.files.uri} could not be written within {seconds:g} s and may not "
            f"be dropped ({self._failures} saves before it failed, checkpoints.keep_last={self.config.keep_last}): "
            f"{trouble}. The checkpoints before it are whole: run again to go on from the newest one"
        )

    def _trouble(self) -> str:
        """What the first worker in trouble says, on all workers."""
        assert self._save is not None
        error = self._save.job.error
        said = self.world.all_gather(lambda: str(error) if error is not None else None)
        return next((text for text in said if text is not None), "the store is too slow")

    def _raise_broken(self, save: _Save) -> None:
        def raise_own() -> None:
            if save.job.stage is Stage.BROKEN:
                assert save.job.error is not None
                raise save.job.error

        try:
            self.world.all_gather(raise_own)
        finally:
            self.close()
            self._tell(save, published=False)

    def _tell(self, save: _Save, published: bool) -> None:
        self.ended(save.progress.step, time.monotonic() - save.began, published)

    def _sum(self, numbers: Sequence[int]) -> list[int]:
        if self.world.size == 1:
            return list(numbers)
        totals = torch.tensor(numbers)
        dist.all_reduce(totals)
        return [int(total) for total in totals]

    def _seconds(self, deadline: float | None) -> float:
        return self.config.save_deadline_seconds if deadline is None else deadline

    def _image_for(self, pieces: Sequence[Piece]) -> ShardImage:
        """Memory for the snapshot: the same one every time, unless a write that was given up still reads it."""
        in_use = self._user is not None and self._user.alive
        if self._image is None or in_use or self._image.header != header_of(pieces):
            self._image = ShardImage(pieces)
        return self._image
