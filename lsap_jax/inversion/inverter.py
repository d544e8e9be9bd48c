"""One batch, from uint8 images to codes, images, metrics and curves. Every inversion, of arrays and of folders, goes
through it.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from lsap_jax.inversion import loop
from lsap_jax.inversion.jobs import Inverted, Job, Layout, batches_of, code_shapes, in_slots
from lsap_jax.inversion.prepare import Start, prepare
from lsap_jax.inversion.settings import check, images_together, make_problem, start_from_config, winograd_channels
from lsap_jax.losses.judges import Networks, make_judges
from lsap_jax.losses.terms import Targets
from lsap_jax.models.generator import Generator
from lsap_jax.networks.view import View, square
from lsap_jax.rendering.devices import merge, over_devices, padded_size, replicate, shard
from lsap_jax.spaces import Space, feature, space_from_config
from lsap_jax.spaces.statistics import with_class_means, with_statistics
from lsap_jax.storage.flight import Preempted, flight_path, load_flight, save_flight

StepReport = Callable[[int, int, float], None]  # step, steps, mean loss of the images still moving


class Inverter:
    """A configuration made ready on the devices: the networks' copies and the compiled functions. Call it with up to
    `batch_size` jobs.

    Attributes:
        problem, judges, statistics, layout: made from the configuration and the generator.
        chunks, length: number of compiled scans of a batch, and of evaluations in each.
    """

    def __init__(
        self, G: Generator, config: ConfigDict, devices: Sequence[jax.Device] | None = None, masked: bool = False
    ) -> None:
        """Raises LsapError where configuration and generator do not fit together."""
        check(config)
        start = start_from_config(config, G)
        self.config = config
        self.devices = list(devices or jax.local_devices())
        self.batch_size = padded_size(config.batch_size, self.devices)
        together = images_together(config, self.devices)
        self.problem = make_problem(config, space_from_config(config, G), together)
        G = with_class_means(with_statistics(G) if self.problem.needs_statistics else G.without("statistics"))
        self.statistics = G.statistics
        self.judges = make_judges(config, G)
        judges = {name: judged.judge for name, judged in self.judges.items() if judged.judge is not None}
        self.layout = Layout(
            shape=(G.img_resolution, G.img_resolution, G.img_channels),
            seen_by=_looking(G, self.space, start, {name: judge.resolution for name, judge in judges.items()}),
            codes=code_shapes(self.space, G),
            masked=masked,
        )
        # The loop reaches the discriminator through its judge alone: one copy on a device is enough.
        used = G.encoder if start.detail == "encoder" or self.problem.objective.needs_encoder else None
        encoder = () if used is None else (used.kind,)
        self._host = Networks(generator=G.bare("basecode", "statistics", "class_means", *encoder), judges=judges)
        self._networks = replicate(self._host, self.devices)
        evaluations = config.steps + 1  # the last one evaluates the final codes
        self.chunks = -(-evaluations // config.chunk)
        self.length = -(-evaluations // self.chunks)
        self._programs = compiled(self.problem, start, self.length, tuple(self.devices))

    @property
    def space(self) -> Space:
        """The space of the codes."""
        return self.problem.space

    @cached_property
    def _frozen(self) -> Any:
        """The networks in the form that steps use, on every device; made at the first step."""
        networks = self._host.replace(generator=self._host.generator.without("basecode"))
        winograd = winograd_channels(self.config, self.devices)
        return replicate(networks.freeze(winograd, self.config.compute.half_blocks), self.devices)

    def __call__(
        self,
        jobs: Sequence[Job | None],
        report: StepReport | None = None,
        flight: Path | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> list[Inverted | None]:
        """Results in the order of the jobs; None for an empty slot, and for an image without a single finite step.

        Args:
            report: called after every chunk.
            flight: file of a batch under way: read at the start if it exists, written when `stop` returns true.
            stop: called after every chunk but the last.

        Raises:
            Preempted: `stop` returned true; the batch is saved.
        """
        state, targets = self.begin(jobs)
        curves: list[dict[str, Any]] = []
        if flight is not None and (saved := load_flight(flight, state)) is not None:
            state, curves = saved
        for i in range(len(curves), self.chunks):
            state, curve = self.advance(jobs, state, targets)
            curves.append(curve)
            taken = min((i + 1) * self.length, self.config.steps)
            if report is not None:  # waits for the chunk; without a listener the device runs on
                report(taken, self.config.steps, _last_loss(curve, len(jobs)))
            if flight is not None and i + 1 < self.chunks and stop():
                save_flight(flight, state, curves)
                raise Preempted(f"stopped after {taken} of {self.config.steps} steps")
        whole = self.join(curves)
        own = [{name: values[i] for name, values in whole.items()} for i in range(self.batch_size)]
        return self.end(jobs, state, targets, own)

    def begin(self, jobs: Sequence[Job | None]) -> tuple[loop.State, Targets]:
        """Starting state and targets of up to `batch_size` jobs, one of them at least, on the devices."""
        filled, live = in_slots(jobs, self.batch_size)
        inputs, live = shard((self.layout.arrays(filled), live), len(self.devices))
        return self._programs.prepare(self._networks, inputs, self._each(self.config.seed), live)  # type: ignore[no-any-return]

    def enter(self, chosen: np.ndarray, a: Any, b: Any) -> Any:
        """Results of `begin`: those in `a` where `chosen` [B] holds, else those in `b`, whose buffers are used up."""
        return self._programs.select(shard(chosen, len(self.devices)), a, b)

    def advance(
        self, jobs: Sequence[Job | None], state: loop.State, targets: Targets
    ) -> tuple[loop.State, dict[str, jax.Array]]:
        """The state after a chunk of steps, and the chunk's curves [devices, b, length]; the state given is used up."""
        return self._programs.chunk(self._frozen, state, targets, self._each(self.config.steps), self._live(jobs))  # type: ignore[no-any-return]

    def end(
        self, jobs: Sequence[Job | None], state: loop.State, targets: Targets, curves: Sequence[dict[str, np.ndarray]]
    ) -> list[Inverted | None]:
        """Results of the jobs, None for an empty slot or where no step was finite; `curves` are each image's own."""
        steps = self._each(self.config.steps)
        outcome = merge(self._programs.finish(self._networks, state, targets, steps, self._live(jobs)))
        return [
            None if job is None or outcome.step[i] < 0 else _inverted(jax.tree.map(lambda a, i=i: a[i], outcome), curve)
            for i, (job, curve) in enumerate(zip(jobs, curves, strict=False))
        ]

    def join(self, curves: list[Any]) -> dict[str, np.ndarray]:
        """Chunks of curves [devices, b, length] as one: term -> [B, at most steps + 1]."""
        whole = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *(merge(part) for part in curves))
        return {k: v[:, : self.config.steps + 1] for k, v in whole.items()}

    def batches(self, count: int) -> Iterator[range]:
        """Indices of each batch of `count` images."""
        return batches_of(count, self.config.batch_size)

    def flight_of(self, run: Path, jobs: Sequence[Job | None]) -> Path:
        """File of this batch in a run folder. Its name depends on the images, their masks and the shapes of the arrays;
        the run fixes the rest.
        """
        images = [None if job is None else [job.id, *map(_digest, _seen(job))] for job in jobs]
        shapes = [self.batch_size, len(self.devices), self.chunks, self.config.steps]
        return flight_path(run, {"images": images, "shapes": shapes})

    def step_program(self, count: int) -> Any:
        """The program of a chunk of steps for `count` images on one device (`jax.stages.Compiled`), not run."""
        networks, frozen = (
            jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), copies)
            for copies in (self._networks, self._frozen)
        )
        start = {key: np.zeros(shape, np.float32) for key, shape in self.layout.codes.items() if key == "c"}
        job = Job(id="", image=np.zeros(self.layout.shape, np.uint8), start=start)
        inputs = self.layout.arrays([job] * count)
        live = np.ones(count, bool)
        begin = partial(prepare, self.problem, self._programs.start)
        state, targets = jax.eval_shape(begin, networks, inputs, np.int32(self.config.seed), live)
        chunk = jax.jit(partial(loop.chunk, self.problem, self.length), donate_argnums=1)
        return chunk.lower(frozen, state, targets, np.int32(self.config.steps), live).compile()

    def _live(self, jobs: Sequence[Job | None]) -> np.ndarray:
        """Which slots hold a job, [devices, b]."""
        return shard(in_slots(jobs, self.batch_size)[1], len(self.devices))  # type: ignore[no-any-return]

    def _each(self, value: int) -> np.ndarray:
        """A number for every device."""
        return np.full(len(self.devices), value, np.int32)


def _seen(job: Job) -> list[np.ndarray]:
    """What the steps see of an image besides its start, which the run fixes."""
    return [job.image] if job.mask is None else [job.image, job.mask]


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


class Programs(NamedTuple):
    """The functions of a batch over the devices, compiled for a start."""

    start: Start
    prepare: Callable[..., Any]
    chunk: Callable[..., Any]
    finish: Callable[..., Any]
    select: Callable[..., Any]


@lru_cache(maxsize=32)
def compiled(problem: loop.Problem, start: Start, length: int, devices: tuple[jax.Device, ...]) -> Programs:
    """The programs of a problem; equal problems share them, and so their compilations."""
    return Programs(
        start=start,
        prepare=over_devices(partial(prepare, problem, start), devices),
        chunk=over_devices(partial(loop.chunk, problem, length), devices, donate=(1,)),
        finish=over_devices(partial(loop.finish, problem), devices),
        select=over_devices(loop.select, devices, donate=(2,)),
    )


def _looking(G: Generator, space: Space, start: Start, judges: Mapping[str, int]) -> dict[str, View]:
    """How networks look at the targets, where that is not as they are: judges, which only reduce, and the encoders that
    give a start.
    """
    found = {name: square(size) for name, size in judges.items() if 0 < size < G.img_resolution}
    if space.has_base and feature.uses_encoder(G, space.base_resolution, start.f):
        assert G.basecode is not None
        found["basecode"] = square(G.basecode.config.input_resolution)
    if start.detail == "encoder":
        assert G.encoder is not None, "checked beforehand"
        found["encoder"] = G.encoder.view
    return found


def _inverted(one: loop.Outcome, curve: dict[str, np.ndarray]) -> Inverted:
    """The result of one image, whose leaves have lost their batch axis."""
    return Inverted(
        codes={key: np.asarray(code) for key, code in one.codes.items()},
        image=np.asarray(one.images),
        metrics={name: float(value) for name, value in one.metrics.items()},
        curve=curve,
        flags=() if one.active else (f"non-finite loss or gradient; kept step {int(one.step)}",),
    )


def _last_loss(curve: Mapping[str, jax.Array], count: int) -> float:
    losses = merge(curve["loss"])[:count, -1]
    finite = losses[np.isfinite(losses)]
    return float(finite.mean()) if finite.size else float("nan")


def versions() -> dict[str, str]:
    """Versions of the packages that decide results."""
    import optax

    import lsap_jax

    return {
        "lsap_jax": lsap_jax.__version__,
        "jax": jax.__version__,
        "optax": optax.__version__,
        "numpy": np.__version__,
    }
