"""One batch, from uint8 images to codes, images, metrics and curves: the only road to an inversion, for arrays and
for folders.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from lsap_jax.errors import LsapError
from lsap_jax.inversion import loop
from lsap_jax.inversion.objective import Targets, make_perceptual
from lsap_jax.inversion.prepare import Start, prepare
from lsap_jax.inversion.settings import check, images_together, make_problem, start_from_config, winograd_channels
from lsap_jax.models.generator import Generator
from lsap_jax.pixels import to_float
from lsap_jax.rendering.devices import merge, over_devices, padded_size, replicate, shard
from lsap_jax.spaces import Space, feature, space_from_config
from lsap_jax.spaces.statistics import with_statistics
from lsap_jax.storage.flight import Preempted, flight_path, load_flight, save_flight

StepReport = Callable[[int, int, float], None]  # step, steps, mean loss of the images still moving


@dataclass(frozen=True, kw_only=True)
class Inverted:
    """One image's result.

    Attributes:
        codes: by name, without the batch axis.
        image: float32 [R, R, C], clipped to [-1, 1].
        metrics: by name.
        curve: loss terms and "loss", the weighted total, [steps + 1] each: before the first step, …, after the last.
        flags: "non-finite after step k" where the image was frozen.
    """

    codes: dict[str, np.ndarray]
    image: np.ndarray
    metrics: dict[str, float]
    curve: dict[str, np.ndarray]
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One image to invert.

    Attributes:
        id: folds the rng, so that the result does not depend on the neighbours.
        image: uint8 [R, R, C].
        mask: float [R, R] in [0, 1], or None.
        start: codes to begin from, by name; what is missing starts as always.
    """

    id: str
    image: np.ndarray
    mask: np.ndarray | None = None
    start: Mapping[str, np.ndarray] | None = None


class Inverter:
    """A configuration made ready on the devices: the networks' copies and the compiled functions. Call it with up to
    `batch_size` jobs.
    """

    def __init__(
        self, G: Generator, config: ConfigDict, devices: Sequence[jax.Device] | None = None, masked: bool = False
    ) -> None:
        """Raises LsapError where configuration and generator do not go together."""
        check(config)
        self.start = start_from_config(config, G)
        self.config = config
        self.devices = list(devices or jax.local_devices())
        self.batch_size = padded_size(config.batch_size, self.devices)
        self.space: Space = space_from_config(config, G)
        problem = make_problem(config, self.space, together=images_together(config, self.devices))
        if problem.statistics:
            G = with_statistics(G)
        self.statistics = G.statistics if problem.statistics else None
        self.perceptual, self.perceptual_record = make_perceptual(config, G)
        self.inputs = self._encoder_inputs(G)
        self.masked = masked
        evaluations = config.steps + 1  # the last one of the final codes
        self.chunks = -(-evaluations // config.chunk)
        self.shape = (G.img_resolution, G.img_resolution, G.img_channels)
        # The loop reaches the discriminator through `perceptual` alone: one copy on a device is enough.
        bare = G.replace(discriminator=None, provenance_json="{}", source="", statistics=self.statistics)
        if not (self.start.detail == "encoder" or config.loss.domain > 0):
            bare = bare.replace(encoder=None)
        self._networks = replicate((bare, self.perceptual), self.devices)
        self._bare = bare
        self._codes = jax.eval_shape(partial(_one_code, self.space), G)
        self.length = -(-evaluations // self.chunks)  # steps of a chunk
        self.problem = problem
        self._steps = np.full(len(self.devices), config.steps, np.int32)
        functions = compiled(problem, self.start, self.length, tuple(self.devices))
        self._prepare, self._chunk, self._finish, self._enter = functions

    @cached_property
    def _frozen(self) -> Any:
        """Generator and perceptual distance as the steps have them, on every device; made when steps are taken first.

        What is shown and measured comes from the weights as they are.
        """
        winograd = winograd_channels(self.config, self.devices)
        G = self._bare.replace(basecode=None).freeze(winograd, self.config.compute.half_blocks)
        seen = None if self.perceptual is None else self.perceptual.freeze(self.shape[0], winograd)
        return replicate((G, seen), self.devices)

    def _encoder_inputs(self, G: Generator) -> dict[str, int]:
        """Resolutions at which the encoders that give a start want the image, by the name of the input."""
        found = {}
        if self.space.has_base and feature.uses_encoder(G, self.space.base_resolution, self.config.init.f):
            assert G.basecode is not None
            found["basecode_images"] = G.basecode.config.input_resolution
        if self.start.detail == "encoder":
            assert G.encoder is not None, "checked beforehand"
            found["encoder_images"] = G.encoder.config.input_resolution
        return found

    def __call__(
        self,
        jobs: Sequence[Job | None],
        report: StepReport | None = None,
        flight: Path | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> list[Inverted | None]:
        """Results in the order of the jobs; None for an empty slot, and for an image without a single finite step.

        Args:
            report: told after every chunk.
            flight: where the batch under way is saved once `stop` says so, and looked for at the start.
            stop: asked after every chunk but the last.

        Raises:
            Preempted: it was stopped and saved.
        """
        state, targets = self.begin(jobs)
        curves: list[dict[str, Any]] = []
        if flight is not None and (saved := load_flight(flight, state)) is not None:
            state, curves = saved
        for i in range(len(curves), self.chunks):
            state, curve = self.advance(jobs, state, targets)
            curves.append(curve)
            if report is not None:  # waits for the chunk; without a listener the device runs on
                taken = min((i + 1) * self.length, self.config.steps)
                report(taken, self.config.steps, _last_loss(curve, len(jobs)))
            if flight is not None and i + 1 < self.chunks and stop():
                save_flight(flight, state, curves)
                raise Preempted(f"stopped after {(i + 1) * self.length} of {self.config.steps} steps")
        whole = self.join(curves)
        own = [{name: values[i] for name, values in whole.items()} for i in range(self.batch_size)]
        return self.end(jobs, state, targets, own)

    def begin(self, jobs: Sequence[Job | None]) -> tuple[loop.State, Targets]:
        """Starting state and targets of up to `batch_size` jobs, one of them at least, on the devices."""
        seeds = np.full(len(self.devices), self.config.seed, np.int32)
        inputs = shard(self._inputs(self._fill(jobs)), len(self.devices))
        return self._prepare(*self._networks, inputs, seeds, self._live(jobs))  # type: ignore[no-any-return]

    def enter(self, chosen: np.ndarray, a: Any, b: Any) -> Any:
        """What `begin` made: of `a` for the images where `chosen` [B] holds, of `b`, which is used up, elsewhere."""
        return self._enter(shard(chosen, len(self.devices)), a, b)

    def advance(
        self, jobs: Sequence[Job | None], state: loop.State, targets: Targets
    ) -> tuple[loop.State, dict[str, jax.Array]]:
        """The state after a chunk of steps, and the chunk's curves [devices, b, length]; the state given is used up."""
        return self._chunk(*self._frozen, state, targets, self._steps, self._live(jobs))  # type: ignore[no-any-return]

    def end(
        self, jobs: Sequence[Job | None], state: loop.State, targets: Targets, curves: Sequence[dict[str, np.ndarray]]
    ) -> list[Inverted | None]:
        """Results of the jobs, None for an empty slot or where no step was finite; `curves` are each image's own."""
        outcome = merge(self._finish(*self._networks, state, targets, self._steps, self._live(jobs)))
        return self._unpack(jobs, outcome, curves)

    def _live(self, jobs: Sequence[Job | None]) -> np.ndarray:
        """Which slots hold a job, [devices, b]."""
        found = np.zeros(self.batch_size, bool)
        found[: len(jobs)] = [job is not None for job in jobs]
        return shard(found, len(self.devices))  # type: ignore[no-any-return]

    def _fill(self, jobs: Sequence[Job | None]) -> list[Job]:
        """`batch_size` jobs: empty slots are copies of a job, so that shapes never change. Accelerators compute them,
        too, and they are thrown away.
        """
        if len(jobs) > self.batch_size:
            raise ValueError(f"{len(jobs)} jobs do not fit a batch of {self.batch_size}")
        filler = next(job for job in jobs if job is not None)
        padded = [*jobs, *[None] * (self.batch_size - len(jobs))]
        return [filler if job is None else job for job in padded]

    def _inputs(self, jobs: Sequence[Job]) -> dict[str, Any]:
        images = np.stack([job.image for job in jobs])
        inputs: dict[str, Any] = {"images": to_float(images), "words": np.stack([id_words(job.id) for job in jobs])}
        reduce_to = self.perceptual.resolution if self.perceptual is not None else 0
        if reduce_to and reduce_to < images.shape[1]:
            inputs["perceptual_images"] = to_float(lanczos(images, reduce_to))
        for name, resolution in self.inputs.items():
            inputs[name] = to_float(lanczos(images, resolution))
        if self.masked:
            inputs["mask"] = np.stack([_mask(job, self.shape) for job in jobs])
        starts = {key for job in jobs if job.start for key in job.start}
        if starts:
            inputs["start"], inputs["has_start"] = self._starts(jobs)
        return inputs

    def _starts(self, jobs: Sequence[Job]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """(codes [B, ...], whether each image has them [B]), by name."""
        codes, given = {}, {}
        for key in self.space.keys:
            shape = tuple(self._codes[key].shape[1:])
            rows = []
            for job in jobs:
                code = (job.start or {}).get(key)
                if code is not None and code.shape != shape:
                    raise LsapError(f"{job.id}: the start code {key!r} has shape {code.shape}, this run needs {shape}")
                rows.append(np.zeros(shape, np.float32) if code is None else np.asarray(code, np.float32))
            codes[key] = np.stack(rows)
            given[key] = np.array([key in (job.start or {}) for job in jobs])
        return codes, given

    def step_program(self, count: int) -> Any:
        """The program of a chunk of steps for `count` images on one device (`jax.stages.Compiled`), not run."""
        networks, frozen = (
            jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), copies)
            for copies in (self._networks, self._frozen)
        )
        inputs = self._inputs([Job(id="", image=np.zeros(self.shape, np.uint8))] * count)
        begin, live = partial(prepare, self.problem, self.start), np.ones(count, bool)
        state, targets = jax.eval_shape(begin, *networks, inputs, np.int32(self.config.seed), live)
        chunk = jax.jit(partial(loop.chunk, self.problem, self.length), donate_argnums=2)
        return chunk.lower(*frozen, state, targets, np.int32(self.config.steps), live).compile()

    def flight_of(self, run: Path, jobs: Sequence[Job | None]) -> Path:
        """Where this batch is saved in a run folder: by its images and all that shapes its arrays; the run says the
        rest.
        """
        images = [None if job is None else [job.id, hashlib.sha256(job.image.tobytes()).hexdigest()] for job in jobs]
        shapes = [self.batch_size, len(self.devices), self.chunks, self.config.steps]
        return flight_path(run, {"images": images, "shapes": shapes})

    def join(self, curves: list[Any]) -> dict[str, np.ndarray]:
        """Chunks of curves [devices, b, length] as one: term -> [B, at most steps + 1]."""
        whole = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *(merge(part) for part in curves))
        return {k: v[:, : self.config.steps + 1] for k, v in whole.items()}

    def _unpack(
        self, jobs: Sequence[Job | None], outcome: loop.Outcome, curves: Sequence[dict[str, np.ndarray]]
    ) -> list[Inverted | None]:
        results: list[Inverted | None] = []
        for i, job in enumerate(jobs):
            if job is None or outcome.step[i] < 0:
                results.append(None)
                continue
            flags = () if outcome.active[i] else (f"non-finite loss or gradient; kept step {int(outcome.step[i])}",)
            results.append(
                Inverted(
                    codes={k: np.asarray(v[i]) for k, v in outcome.codes.items()},
                    image=np.asarray(outcome.images[i]),
                    metrics={k: float(v[i]) for k, v in outcome.metrics.items()},
                    curve=curves[i],
                    flags=flags,
                )
            )
        return results

    def batches(self, count: int) -> Iterator[range]:
        """Indices of each batch of `count` images."""
        size = self.config.batch_size
        return (range(i, min(i + size, count)) for i in range(0, count, size))


@lru_cache(maxsize=32)
def compiled(problem: loop.Problem, start: Start, length: int, devices: tuple[jax.Device, ...]) -> tuple[Any, ...]:
    """(prepare, chunk, finish, select) over the devices; equal problems share them, and so their compilations."""
    return (
        over_devices(partial(prepare, problem, start), devices),
        over_devices(partial(loop.chunk, problem, length), devices, donate=(2,)),
        over_devices(partial(loop.finish, problem), devices),
        over_devices(loop.select, devices, donate=(2,)),
    )


def _one_code(space: Space, G: Generator) -> dict[str, jax.Array]:
    """Codes of one image in this space, for their shapes."""
    f0 = feature.own_feature(G, space.base_resolution) if space.has_base else None
    return space.init(G, jax.random.split(jax.random.key(0), 1), f0)


def id_words(id: str) -> np.ndarray:
    """uint32 [2] of an image's id, the same on every machine."""
    return np.frombuffer(hashlib.sha256(id.encode()).digest()[:8], "<u4").copy()


def lanczos(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 images [B, R, R, C] resized to `size` by Pillow's Lanczos filter, as the authors' code prepares targets."""
    if images.shape[1] == size:
        return images
    squeezed = images[..., 0] if images.shape[-1] == 1 else images
    resized = [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS)) for image in squeezed]
    return np.stack(resized).reshape(len(images), size, size, images.shape[-1])


def _mask(job: Job, shape: tuple[int, ...]) -> np.ndarray:
    if job.mask is None:
        return np.ones(shape[:2], np.float32)
    return np.asarray(job.mask, np.float32)


def _last_loss(curve: Mapping[str, jax.Array], count: int) -> float:
    losses = merge(curve["loss"])[:count, -1]
    finite = losses[np.isfinite(losses)]
    return float(finite.mean()) if finite.size else float("nan")


def versions() -> dict[str, str]:
    """Versions that decide results."""
    import optax

    import lsap_jax

    return {
        "lsap_jax": lsap_jax.__version__,
        "jax": jax.__version__,
        "optax": optax.__version__,
        "numpy": np.__version__,
    }
