"""Writes results to the run folder while the next ones are computed, and counts the progress of a run."""

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsap_jax.data import ImageError, Item
from lsap_jax.runs.stream import Batch, Computed
from lsap_jax.runs.worker import Failed, Result
from lsap_jax.storage.flight import drop_flight
from lsap_jax.storage.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands. `loss` is the mean of the batch under way; `eta_seconds` is None until something was timed,
    which the first chunk is not, as it waits for its compilation; `steps` is 0 where the steps of a batch are not
    reported, as they are computed elsewhere.
    """

    done: int
    failed: int
    total: int
    step: int
    steps: int
    images_per_second: float
    loss: float
    eta_seconds: float | None


class Clock:
    """Counts images and steps of a run and reports them to a listener."""

    def __init__(self, total: int, done: int, report: Callable[[Progress], None] | None) -> None:
        self.total, self.done, self.failed, self.report = total, done, 0, report
        self.before = done
        self.started: float | None = None  # when the first results were there, and with them the programs
        self.timed = 0.0  # images that were computed by then
        self.step, self.steps, self.loss = 0, 0, float("nan")
        self.under_way, self.computed = 0, 0  # images that are not finished: with and without steps to come
        self.taken = 0.0  # share of the steps that those under way have behind them

    def begin(self, images: int) -> None:
        """The computation of a batch with this many unfinished images begins."""
        self.under_way += images
        self.taken = 0.0
        if self.started is None:
            self.tell()

    def end(self, images: int) -> None:
        """The computation of this many images is over."""
        self.under_way -= images
        self.computed += images
        self.taken = 0.0
        self.time()

    def saved(self, images: int) -> None:
        """This many images have been saved in the run folder."""
        self.computed -= images
        self.done += images

    def fail(self, images: int = 1) -> None:
        """This many images have failed; they were never computed, or are no longer counted as computed."""
        self.failed += images

    def chunk(self, step: int, steps: int, loss: float) -> None:
        """A chunk of the batch under way is over."""
        self.step, self.steps, self.loss = step, steps, loss
        self.taken = step / max(steps, 1)
        self.tell()
        self.time()

    def time(self) -> None:
        """The first results are there: what is timed begins."""
        if self.started is None:
            self.started, self.timed = time.monotonic(), self.images()

    def images(self) -> float:
        """Images computed so far, those under way by their steps: there is an estimate before the first one is done."""
        return self.done - self.before + self.computed + self.under_way * self.taken

    def tell(self) -> None:
        """Report where the run stands."""
        if self.report is None:
            return
        done = self.images()
        rate = 0.0 if self.started is None else (done - self.timed) / max(time.monotonic() - self.started, 1e-9)
        left = self.total - self.failed - self.before - done
        self.report(
            Progress(
                done=self.done,
                failed=self.failed,
                total=self.total,
                step=self.step,
                steps=self.steps,
                images_per_second=rate,
                loss=self.loss,
                eta_seconds=left / rate if rate > 0 else None,
            )
        )


# (folder, item, result): saves an image that is done, in a thread.
Save = Callable[[Any, Any, Result], None]


def save_result(folder: RunFolder, item: Item, result: Result) -> None:
    """Saves an image of a run: the parts of its result and its target."""
    folder.write(
        item.id,
        metrics=result.metrics,
        input_sha256=item.sha256,
        flags=result.flags,
        notes=item.notes,
        targets=item.image,
        crop=item.crop,
        **result.parts,
    )


class Saver:
    """Saves results in two threads, and limits the number of images that wait for them.

    Attributes:
        taken: ids that are finished or on their way; the same image given again changes nothing.
    """

    def __init__(
        self,
        folder: Any,
        clock: Clock,
        finished: Collection[str],
        most: int,
        pool: ThreadPoolExecutor,
        save: Save = save_result,
    ):
        """`most` is the number of images that may wait while the next ones are computed."""
        self.folder, self.clock, self.most, self.pool, self.save = folder, clock, most, pool, save
        self.taken = set(finished)
        self.waiting: deque[tuple[list[Future[None]], Path | None]] = deque()

    def unfinished(self, batch: Batch) -> int:
        """How many of a batch's images have a job and are not saved."""
        return sum(job is not None and job.id not in self.taken for job in batch.jobs)

    def add(self, computed: Computed, inputs: Sequence[str]) -> None:
        """Have results saved; returns before they are, and waits for earlier ones where there are too many.

        Args:
            inputs: where each image of the source comes from, for people.

        Raises:
            LsapError: these or earlier ones could not be written.
        """
        self.clock.end(self.unfinished(computed.batch))
        new: list[tuple[Any, Result]] = []
        for index, item, result in zip(computed.batch.indices, computed.batch.items, computed.results, strict=True):
            if isinstance(item, ImageError) or item.id in self.taken:
                continue
            self.taken.add(item.id)
            if isinstance(result, Failed):
                self.folder.fail(item.id, result.reason, inputs[index])
                self.clock.computed -= 1
                self.clock.fail()
            elif result is not None:
                new.append((item, result))
        self.settle(leave=max(self.most - len(new), 0))
        futures = [self.pool.submit(self.save, self.folder, item, result) for item, result in new]
        self.waiting.append((futures, computed.flight))

    def collect(self) -> None:
        """Count what has been written meanwhile, without waiting.

        Raises:
            LsapError: something could not be written.
        """
        while self.waiting and all(future.done() for future in self.waiting[0][0]):
            self._next()
        for futures, _ in self.waiting:
            for future in futures:
                if future.done():
                    future.result()

    def settle(self, leave: int = 0) -> None:
        """Wait until at most `leave` images are not written yet; errors as `collect`."""
        while self.waiting and (leave == 0 or sum(len(futures) for futures, _ in self.waiting) > leave):
            self._next()

    def _next(self) -> None:
        futures, flight = self.waiting[0]  # stays there if one of its writes has failed
        for future in futures:
            future.result()
        self.waiting.popleft()
        if flight is not None:
            drop_flight(flight)
        self.clock.saved(len(futures))
        self.clock.tell()
