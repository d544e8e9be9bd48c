"""Pictures of edits inverted again as their run was, for latent editing consistency (`lsap_jax.metrics.consistency`).

The code is compared by its ws, all rows, so that runs in W+ have e4e's measure and those of Z+ and F spaces a distance
in the same units. F spaces are compared by the ws alone. The picture is that of 256 grey levels, as it would be saved.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from lsap_jax.configuration import recorded
from lsap_jax.editing.direction import Direction
from lsap_jax.editing.moves import move
from lsap_jax.encoding.attach import with_encoder
from lsap_jax.errors import LsapError
from lsap_jax.inversion.inverter import Inverter
from lsap_jax.inversion.jobs import Job
from lsap_jax.metrics.consistency import lec
from lsap_jax.models.generator import Generator
from lsap_jax.models.network_file import load_encoder
from lsap_jax.rendering.refinement import Refinement
from lsap_jax.rendering.render import per_batch
from lsap_jax.runs.shipping import sha256_of
from lsap_jax.spaces import Space
from lsap_jax.storage.results import Record, mapping

# (indices of images [B], their pictures uint8 [B, R, R, C]) -> codes by name, NaN where a picture could not be inverted
Again = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]


def comes_again(record: Record, space: Space, most_steps: int) -> bool:
    """Whether pictures are inverted again as in this run: by at most so many steps, from a start that every picture
    has, in a space with ws.
    """
    config = mapping(record.get("config"))
    started = mapping(config.get("init")).get("codes")
    return space.has_ws and not started and recorded(config).steps <= most_steps


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


def measurer(
    G: Generator, space: Space, again: Again, batch_size: int, devices: Sequence[jax.Device]
) -> Callable[..., np.ndarray]:
    """A function of (codes, pictures of the codes moved, indices of the images, direction, strengths [B]) to the LEC
    [B] of each.
    """
    ws = per_batch(_ws, G, space, batch_size, devices)

    def measured(
        codes: Mapping[str, np.ndarray],
        pictures: np.ndarray,
        image: np.ndarray,
        direction: Direction,
        strengths: np.ndarray,
    ) -> np.ndarray:
        back = move(G, space, again(image, pictures), direction, -strengths)
        return lec(ws(codes), ws({key: back[key] for key in space.keys}))

    return measured


def _ws(G: Generator, space: Space, codes: dict[str, Any], refinement: Refinement | None) -> jax.Array:
    ws = space.decode(G, codes).ws
    assert ws is not None, "asked of spaces with ws alone"
    return ws
