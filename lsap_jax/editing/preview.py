"""What directions do to one sample of a generator, the same image in every space."""

from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from lsap_jax.editing.direction import Direction
from lsap_jax.editing.edit import edit
from lsap_jax.models.generator import Generator
from lsap_jax.pixels import to_uint8
from lsap_jax.spaces import parse_space
from lsap_jax.spaces.sphere import retract
from lsap_jax.spaces.statistics import Report, with_statistics

PER_ROW = {"z": "z+", "w": "w+", "pn": "pn+"}  # the space with a code per row, which takes every direction


def preview(
    G: Generator,
    directions: Sequence[Direction],
    strengths: Sequence[float],
    seed: int,
    batch_size: int,
    report: Report | None = None,
) -> np.ndarray:
    """Edits of the sample of a seed, a row per direction and a column per strength.

    Args:
        seed: as in `lsap-jax generate`.
        report: called with (samples done, samples in all) while latent statistics are computed.

    Returns:
        uint8 [D, S, R, R, C].
    """
    codes, rows = sampled_codes(G, seed, report), []
    for one in directions:
        space = PER_ROW.get(one.space, one.space)
        rows.append(to_uint8(edit(G, space, codes(space), one, strengths, batch_size=batch_size).images[:, 0]))
    return np.stack(rows)


def sampled_codes(G: Generator, seed: int, report: Report | None = None) -> Callable[[str], Mapping[str, np.ndarray]]:
    """A function from the name of a space to the code there of the sample of a seed; the image is the same in all.

    Raises:
        LsapError: the generator is conditional and is not used `for_classes` of one label.
    """
    z = retract(jnp.asarray(np.random.RandomState(seed % 2**32).randn(1, G.z_dim), jnp.float32))

    own = {} if G.labels is None else {"c": np.asarray(G.labels)}

    def codes(name: str) -> Mapping[str, np.ndarray]:
        space = parse_space(name)
        if space.on_sphere:
            return {space.key: np.repeat(np.asarray(z)[:, None], G.num_ws, axis=1), **own}
        ready = (with_statistics(G, report) if space.needs_statistics else G).given(own.get("c"))
        return {space.key: np.asarray(space.from_ws(ready, G.mapping(z))), **own}

    return codes
