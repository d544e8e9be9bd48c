"""The worker of result refinement, for the codes of a run or those that another worker has just found."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from lsap_jax.configuration import flat
from lsap_jax.errors import LsapError
from lsap_jax.inversion.inverter import StepReport, versions
from lsap_jax.inversion.jobs import Job, Layout, batches_of, code_shapes, even_size, in_slots
from lsap_jax.inversion.loop import measure
from lsap_jax.inversion.prepare import image_rng
from lsap_jax.inversion.settings import images_together
from lsap_jax.losses.judges import Networks, column, make_judges
from lsap_jax.losses.terms import Targets
from lsap_jax.models.generator import Generator
from lsap_jax.models.network_file import read
from lsap_jax.networks.image_by_image import in_groups
from lsap_jax.networks.view import square
from lsap_jax.refinement.methods import find_method, make_refiner
from lsap_jax.refinement.refiner import Course, Refiner, is_shared
from lsap_jax.rendering.devices import merge, over_devices, padded_size, replicate, shard
from lsap_jax.rendering.refinement import to_arrays
from lsap_jax.rendering.render import decode, synthesise
from lsap_jax.runs.generators import Weights
from lsap_jax.runs.shipping import Shipment, packed, sha256_of
from lsap_jax.runs.worker import Failed, Outcome, Result, Stop, Worker, never
from lsap_jax.spaces import Space
from lsap_jax.spaces.statistics import with_statistics
from lsap_jax.storage.flight import Preempted
from lsap_jax.storage.results import mapping

NOT_ALONE = (
    "the images are refined together, and another one cannot be used: mend it, or delete its line of manifest.jsonl"
)
NOT_FINITE = Failed("what refines it, or its picture, is not finite")


@dataclass(frozen=True, kw_only=True)
class Refining:
    """A refiner made ready for a generator.

    Attributes:
        refiner: of the method.
        record: its entry of run.json.
        seed: with the ids, it decides the random numbers.
    """

    refiner: Refiner
    record: Mapping[str, Any]
    seed: int = 0

    @property
    def shared(self) -> bool:
        """Whether all images of a run are refined together."""
        return is_shared(self.refiner)

    @property
    def minimised(self) -> set[str]:
        """Columns of results that the method minimises, where it takes steps."""
        options, judge = mapping(self.record.get("options")), getattr(self.refiner, "judge", None)
        if not any(options.get(steps, 0) for steps in ("steps", "weight_steps")):
            return set()
        found = {"mse"} if options.get("mse", 0) > 0 else set()
        return found | ({column(judge)} if judge is not None and options.get("perceptual", 0) > 0 else set())

    def batch_size(self, asked: int | None, usual: int, count: int) -> int:
        """Images of a batch, of `count` in all.

        Args:
            asked: for, or None; then it is `usual`.

        Raises:
            LsapError: images that are refined together do not fit into the batch that is asked for.
        """
        if self.shared and asked is not None and asked < count:
            raise LsapError(f"batch_size={asked}: refine.shared refines all {count} images together; leave it out")
        return count if self.shared else even_size(asked or usual, count)


def refining(
    G: Generator,
    method: str,
    weights: str | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    config: ConfigDict | None = None,
) -> Refining:
    """A method made ready for a generator.

    Args:
        weights: file of its networks; None takes those that come with G.
        options: those that differ from the method's defaults.
        config: of the inversion, which gives the options that both have (`Method.shared`).

    The weights are recorded by their SHA-256, as pictures need them wherever the refinement reads their networks
    (`lsap_jax.runs.generators.with_weights`).

    Raises:
        LsapError: no such method or option, or its networks are missing or belong to another generator.
    """
    known = {} if config is None else flat(config)
    same = {name: known[key] for name, key in find_method(method).shared.items() if key in known}
    refiner, chosen = make_refiner(method, G, weights, {**same, **(options or {})})
    record = {"method": method, "options": chosen, "seed": seed, "weights": weights}
    if weights is not None:
        record["weights_sha256"] = Weights(read(weights)).sha256
    if jax.tree.leaves(refiner):
        record["sha256"] = sha256_of(refiner)
    return Refining(refiner=refiner, record=record, seed=seed)


class RefiningWorker:
    """A `Refiner` as a `Worker`: refines the codes that jobs start from, or those that another worker finds first."""

    def __init__(
        self,
        G: Generator,
        space: Space,
        config: ConfigDict,
        how: Refining,
        devices: Sequence[jax.Device] | None = None,
        *,
        first: Worker | None = None,
        described: Mapping[str, Any] | None = None,
        masked: bool = False,
    ) -> None:
        """Makes copies of the networks on the devices.

        Args:
            config: gives the batch size and the judges whose distances are measured.
            first: the worker that finds the codes; None where the jobs bring them.
            described: run.json of the run that the codes come from, if there is one.
            masked: whether jobs may have masks.

        Raises:
            LsapError: generator and configuration do not fit together.
        """
        if first is not None and first.flow is not None:
            raise LsapError("refinement computes whole batches: set converge.patience to 0")
        if first is not None and how.shared:
            raise LsapError("refine.shared=True: needs the codes of all images; refine the run when it is finished")
        if space.needs_statistics:
            G = with_statistics(G)
        self.G, self.space, self.config, self.how, self.first = G, space, config, how, first
        self.described = described or {}
        self.devices = list(devices or jax.local_devices())[: 1 if how.shared else None]
        self.batch_size = padded_size(config.batch_size, self.devices)
        self.judges = make_judges(config, G)
        judges = {name: judged.judge for name, judged in self.judges.items() if judged.judge is not None}
        self.layout = Layout(
            shape=(G.img_resolution, G.img_resolution, G.img_channels),
            seen_by={name: square(j.resolution) for name, j in judges.items() if 0 < j.resolution < G.img_resolution},
            codes=code_shapes(space, G),
            masked=masked,
        )
        # The discriminator is reached through its judge alone: one copy on a device is enough.
        bare = G.without("discriminator").replace(provenance_json="{}", source="")
        networks = Networks(generator=bare, judges=judges), how.refiner
        self._networks = replicate(networks, self.devices)
        self._together = images_together(config, self.devices)
        self._program = compiled(space, self._together, tuple(self.devices))
        # Images that a device computes together are computed in one call, so that work can stop between calls.
        each = self.batch_size // len(self.devices)
        alike = [each] if how.shared else [n for n in range(1, min(self._together or each, each) + 1) if each % n == 0]
        self._piece = alike[-1] * len(self.devices)

    def batches(self, count: int) -> Iterator[range]:
        return batches_of(count, self.config.batch_size)

    def describe(self) -> dict[str, Any]:
        base = self.first.describe() if self.first is not None else self.described
        metrics = {
            name: {**about, "also_loss": bool(about.get("also_loss")) or name in self.how.minimised}
            for name, about in mapping(base.get("metrics")).items()
        }
        return {
            **base,
            **({"metrics": metrics} if metrics else {}),
            "config": {**base.get("config", self.config.to_dict()), "batch_size": self.config.batch_size},
            "batch_size": self.batch_size,
            "devices": [str(device) for device in self.devices],
            "versions": versions(),
            "refinement": {**self.how.record, **({"masked": True} if self.layout.masked else {})},
        }

    def __call__(
        self,
        jobs: Sequence[Job | None],
        report: StepReport | None = None,
        flight: Path | None = None,
        stop: Stop = never,
    ) -> list[Outcome]:
        found: list[Outcome] = [None] * len(jobs)
        if self.first is not None:
            found = self.first(jobs, report, flight, stop)
            jobs = [
                replace(job, start=one.parts["codes"]) if job is not None and isinstance(one, Result) else None
                for job, one in zip(jobs, found, strict=True)
            ]
        if self.how.shared and any(job is None for job in jobs):
            return [None if job is None else Failed(NOT_ALONE) for job in jobs]
        outcomes: list[Outcome] = [one if isinstance(one, Failed) else None for one in found]
        places = [i for i, job in enumerate(jobs) if job is not None]
        for at in range(0, len(places), self._piece):
            if at and stop():
                raise Preempted(f"stopped after {at} of the {len(places)} images of a batch were refined", outcomes)
            some = places[at : at + self._piece]
            for i, one in zip(some, self._refined([jobs[i] for i in some]), strict=True):
                outcomes[i] = _result(found[i], one)
            if report is not None and self.first is None:
                report(min(at + self._piece, len(places)), len(places), float("nan"))
        return outcomes

    def _refined(self, jobs: Sequence[Job | None]) -> list[Any]:
        """Codes, refinement, picture and metrics of each of up to `_piece` jobs."""
        filled, live = in_slots(jobs, self._piece)
        inputs, live = shard((self._inputs(filled), live), len(self.devices))
        seeds = np.full(len(self.devices), self.how.seed, np.int32)
        outcome = merge(self._program(*self._networks, inputs, seeds, live))
        return [jax.tree.map(lambda a, i=i: a[i], outcome) for i in range(len(jobs))]

    def _inputs(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """As `Layout.arrays`, and what the refiner computes on the host."""
        found, on_host = self.layout.arrays(jobs), getattr(self.how.refiner, "prepared", None)
        if on_host is not None:
            found["prepared"] = jax.tree.map(lambda *own: np.stack(own), *[on_host(job.image) for job in jobs])
        return found

    def flight_of(self, run: Path, jobs: Sequence[Job | None]) -> Path | None:
        return None if self.first is None else self.first.flight_of(run, jobs)

    @property
    def flow(self) -> None:
        return None

    def shipment(self) -> Shipment:
        how = replace(self.how, refiner=jax.tree.map(np.asarray, self.how.refiner))
        if self.first is None:
            files = {key: file for judged in self.judges.values() for key, file in judged.files.items()}
            cargo, before = packed(self.G, self.config, files), None
        else:  # one generator is enough for both
            shipped: Any = self.first.shipment()
            cargo, before = shipped.cargo, shipped.make
        return Shipment(cargo=cargo, make=partial(_worker, self.space, how, before, self.layout.masked))

    def program(self, count: int) -> jax.stages.Compiled:
        """The program that refines `count` images on one device, not run."""
        networks = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), self._networks)
        image, start = np.zeros(self.layout.shape, np.uint8), self.layout.codes.items()
        job = Job(id="", image=image, start={key: np.zeros(shape, np.float32) for key, shape in start})
        compute = jax.jit(partial(refined, self.space, self._together))
        inputs = self._inputs([job] * count)
        return compute.lower(*networks, inputs, np.int32(self.how.seed), np.ones(count, bool)).compile()

    def explained(self, error: Exception) -> Exception:
        return error if self.first is None else self.first.explained(error)


def _worker(
    space: Space,
    how: Refining,
    first: Callable[[Generator, ConfigDict], Worker] | None,
    masked: bool,
    G: Generator,
    config: ConfigDict,
) -> RefiningWorker:
    before = None if first is None else first(G, config)
    return RefiningWorker(G, space, config, how, first=before, masked=masked)


@lru_cache(maxsize=16)
def compiled(space: Space, together: int, devices: tuple[jax.Device, ...]) -> Callable[..., Any]:
    """`refined` over the devices."""
    return over_devices(partial(refined, space, together), devices)


def refined(
    space: Space,
    together: int,
    networks: Networks,
    refiner: Refiner,
    inputs: Mapping[str, Any],
    seed: jax.Array,
    live: jax.Array,
) -> dict[str, Any]:
    """Codes, refinement, pictures and metrics of the images of a batch where `live` [B] holds; see `Layout.arrays`."""
    G, judges = networks.generator, networks.judges

    def made(inputs: Mapping[str, Any], rng: jax.Array) -> dict[str, Any]:
        on_host = {key: inputs[key] for key in ("prepared",) if key in inputs}
        targets, mask = inputs["images"], inputs.get("mask")
        codes, refinement, *course = refiner(G, space, inputs["start"], targets, rng, mask, **on_host)
        ones = jnp.ones(len(targets), jnp.int32)
        begun = Course(step=ones - 1, finite=ones > 0)
        return {"codes": codes, "refinement": refinement, "course": course[0] if course else begun}

    def shown(inputs: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
        targets, refinement = inputs["images"], found["refinement"]
        seen = {name: judge.features(inputs["seen_by"].get(name, targets)) for name, judge in judges.items()}
        images = jnp.clip(synthesise(G, decode(G, space, found["codes"], refinement), refinement), -1, 1)
        return {**found, "images": images, "metrics": measure(judges, images, Targets(images=targets, seen=seen))}

    rng = image_rng(seed, inputs["words"])
    if is_shared(refiner):
        return in_groups(max(together, 1), live, shown, inputs, made(inputs, rng))  # type: ignore[no-any-return]
    return in_groups(together, live, lambda *some: shown(some[0], made(*some)), inputs, rng)  # type: ignore[no-any-return]


def _result(first: Outcome, one: Mapping[str, Any]) -> Result | Failed:
    """The outcome of an image, from its first outcome and its part of the refined batch."""
    course = one["course"]
    if course.step < 0 or not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves({**one, "metrics": {}})):
        return NOT_FINITE
    before, flags = ({}, ()) if not isinstance(first, Result) else (first.parts, tuple(first.flags))
    if not course.finite:
        flags += (f"non-finite loss or gradient in the refinement; kept step {course.step}",)
    own = {
        "codes": {key: np.asarray(a) for key, a in one["codes"].items()},
        "images": np.asarray(one["images"]),
        "refined": to_arrays(one["refinement"]),
    }
    return Result(parts={**before, **own}, metrics={name: float(v) for name, v in one["metrics"].items()}, flags=flags)
