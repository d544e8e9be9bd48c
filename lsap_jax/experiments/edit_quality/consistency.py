"""Pictures of edits inverted and refined again as their run was, and moved back: how much of an image comes back.

Latent editing consistency (`lsap_jax.metrics.consistency`) compares the code by its ws, all rows, so that runs in W+
have e4e's measure and those of Z+ and F spaces a distance in the same units. F spaces are compared by the ws alone.
Cycle consistency compares the picture that comes back with the reconstruction (StyleRes, arXiv 2212.14359, trains with
such a cycle). The picture that is inverted again has 256 grey levels, as it would be saved.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from lsap_jax.configuration import recorded
from lsap_jax.editing.direction import Direction
from lsap_jax.editing.moves import move_back
from lsap_jax.encoding.attach import with_encoder
from lsap_jax.errors import LsapError
from lsap_jax.inversion.inverter import Inverter
from lsap_jax.inversion.jobs import Job
from lsap_jax.metrics.consistency import lec
from lsap_jax.metrics.distortion import mse
from lsap_jax.models.generator import Generator
from lsap_jax.models.network_file import load_encoder
from lsap_jax.refinement.methods import find_method
from lsap_jax.rendering.refinement import Refinement, by_signature, from_arrays
from lsap_jax.rendering.render import per_batch, renderer
from lsap_jax.runs.refining import RefiningWorker, refining
from lsap_jax.runs.shipping import sha256_of
from lsap_jax.runs.worker import Result, Worker
from lsap_jax.spaces import Space
from lsap_jax.storage.results import Record, mapping

# (indices of images [B], their pictures uint8 [B, R, R, C]) -> codes by name, NaN where a picture could not be inverted
Again = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]
# the same, and these codes -> codes by name, and what refines each picture
Refined = Callable[
    [np.ndarray, np.ndarray, Mapping[str, np.ndarray]], tuple[Mapping[str, np.ndarray], list[Refinement | None]]
]


def comes_again(record: Record, space: Space, most_steps: int) -> bool:
    """Whether pictures are inverted again as in this run: by at most so many steps, from a start that every picture
    has, in a space with ws. Codes that a refinement moved are compared with such that it moved again, or not at all.
    """
    config = mapping(record.get("config"))
    started = mapping(config.get("init")).get("codes")
    found = space.has_ws and not started and recorded(config).steps <= most_steps
    return found and (refined_again(record, most_steps) or not _moved(record))


def inverter_of(G: Generator, record: Record, batch_size: int, devices: Sequence[jax.Device] | None = None) -> Inverter:
    """What inverted the images of a run, by its run.json, made ready once more.

    Raises:
        LsapError: the file of its encoder is missing, or holds another one.
    """
    config, named = recorded(record["config"]), mapping(record.get("encoder"))
    config.batch_size = batch_size
    if named:
        encoder = load_encoder(str(named.get("name")))
        if sha256_of(encoder) != named.get("sha256"):
            raise LsapError(
                f"{named.get('name')}: is not the encoder of the run any more; put it back, or encode again"
            )
        G = with_encoder(G, encoder)
    return Inverter(G, config, devices)


def again_by(inverter: Inverter, ids: Sequence[str], c: np.ndarray | None = None) -> Again:
    """Inverts pictures of these images, which have labels c [N, c_dim] where the generator is conditional."""

    def again(image: np.ndarray, pictures: np.ndarray) -> dict[str, np.ndarray]:
        own = [None if c is None else {"c": c[i]} for i in image]
        jobs = [Job(id=ids[i], image=p, start=s) for i, p, s in zip(image, pictures, own, strict=True)]
        found = inverter(jobs)
        known = next((one.codes for one in found if one is not None), None)
        if known is None:
            raise LsapError(f"image {ids[image[0]]}: the loss was not finite at any step; look at the generator")
        return {
            key: np.stack([np.full_like(a, np.nan) if one is None else one.codes[key] for one in found[: len(jobs)]])
            for key, a in known.items()
        }

    return again


def refined_again(record: Record, most_steps: int) -> bool:
    """Whether pictures are refined again as in this run: by a method of at most so many steps, without masks, which
    edited pictures do not have; or not at all, as they were not.
    """
    own = mapping(record.get("refinement"))
    return not own.get("masked") and mapping(own.get("options")).get("steps", 0) <= most_steps


def _moved(record: Record) -> bool:
    """Whether the codes of this run are not those of its embedding any more."""
    own = mapping(record.get("refinement"))
    return bool(own) and find_method(own["method"]).moves and mapping(own.get("options")).get("steps", 0) > 0


def refiner_of(
    G: Generator, space: Space, record: Record, batch_size: int, devices: Sequence[jax.Device] | None = None
) -> Worker | None:
    """What refined the images of a run, by its run.json, made ready once more; None of a run that was not refined.

    Raises:
        LsapError: the file of its networks is missing, or holds other ones.
    """
    own = mapping(record.get("refinement"))
    if not own:
        return None
    config = recorded(record["config"])
    config.batch_size = batch_size
    how = refining(G, own["method"], own["weights"], own["options"], own["seed"], config)
    if changed := [key for key in ("sha256", "weights_sha256") if how.record.get(key) != own.get(key)]:
        raise LsapError(
            f"{own['weights'] or 'the generator'}: its networks of {own['method']} are not those of the run any more "
            f"({changed[0]} differs); put them back, or refine again"
        )
    return RefiningWorker(G, space, config, how, devices)


def refined_by(worker: Worker | None, ids: Sequence[str]) -> Refined:
    """Refines pictures of these images; without a worker they are left as they are."""

    def refined(
        image: np.ndarray, pictures: np.ndarray, codes: Mapping[str, np.ndarray]
    ) -> tuple[Mapping[str, np.ndarray], list[Refinement | None]]:
        if worker is None:
            return codes, [None] * len(image)
        starts = [{key: a[k] for key, a in codes.items()} for k in range(len(image))]
        jobs = [Job(id=ids[i], image=p, start=s) for i, p, s in zip(image, pictures, starts, strict=True)]
        found = [one if isinstance(one, Result) else None for one in worker(jobs)]
        nothing = {key: np.full_like(a[0], np.nan) for key, a in codes.items()}
        own = [nothing if one is None else one.parts["codes"] for one in found]
        moved = {key: np.stack([one[key] for one in own]) for key in codes}
        return moved, [None if one is None else from_arrays(one.parts["refined"]) for one in found]

    return refined


def measurer(
    G: Generator,
    space: Space,
    again: Again,
    batch_size: int,
    devices: Sequence[jax.Device],
    refined: Refined | None = None,
    first: np.ndarray | None = None,
) -> Callable[..., dict[str, np.ndarray]]:
    """A function of (codes, pictures of the codes moved, indices of the images, direction, strengths [B]) to "lec" [B],
    and with `refined` and the reconstructions [N, R, R, C] `first` to "cycle" [B].
    """
    ws, draw = per_batch(_ws, G, space, batch_size, devices), renderer(G, space, batch_size, devices)

    def measured(
        codes: Mapping[str, np.ndarray],
        pictures: np.ndarray,
        image: np.ndarray,
        direction: Direction,
        strengths: np.ndarray,
    ) -> dict[str, np.ndarray]:
        found: Mapping[str, np.ndarray] = again(image, pictures)
        refinements: list[Refinement | None] = [None] * len(image)
        if refined is not None:
            found, refinements = refined(image, pictures, found)
        moved = move_back(G, space, found, direction, strengths)
        back = {key: moved[key] for key in space.keys}
        measures = {"lec": lec(ws(codes), ws(back))}
        if refined is not None and first is not None:
            images = by_signature(lambda own, some: draw(some, own), refinements, back)
            measures["cycle"] = np.asarray(mse(images, first[image]))
        return measures

    return measured


def _ws(G: Generator, space: Space, codes: dict[str, Any], refinement: Refinement | None) -> jax.Array:
    ws = space.decode(G, codes).ws
    assert ws is not None, "asked of spaces with ws alone"
    return ws
