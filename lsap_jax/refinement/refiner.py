"""The contract of a method of result refinement, on which `lsap-jax refine` and `--refine` rely."""

from collections.abc import Mapping
from typing import Any, Protocol

import jax
from flax import struct

from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.rendering.refinement import Refinement
from lsap_jax.spaces import Space

Codes = dict[str, jax.Array]


class Course(struct.PyTreeNode, kw_only=True):
    """How the steps of a method went for the images of a batch.

    Attributes:
        step: int [B], the step whose result is kept; -1 where no loss was finite, and there is none.
        finite: bool [B], False where a loss or a gradient was not finite: the image stopped there, at its best step.
    """

    step: jax.Array
    finite: jax.Array


class Refiner(Protocol):
    """Refines images beyond what codes can represent. It is a JAX pytree: the weights of its networks are leaves, its
    options static fields.

    It is traced by `jit`, so it is pure, does not branch on values, and makes the same shapes for every batch of one
    size. Convolutions are traced in full float32; a method that takes steps may take them in
    `networks.arithmetic.convolutions_in` another precision, an option of its own. A new method is a class with this
    call and a row of `lsap_jax.refinement.methods.REFINERS`.

    What only the host can compute (superpixels) is computed before the batch: a method `prepared` of one target, uint8
    [R, R, C], returns arrays by name, and the call gets those of the batch, [B, ...], as `prepared`. A callback from
    the traced computation would block where several devices share the threads of a processor.

    A refiner with a true attribute `shared` makes one refinement for all images of a run together: the call gets all of
    them, and gives the same to each.
    """

    def __call__(
        self,
        G: Generator,
        space: Space,
        codes: Mapping[str, jax.Array],
        images: jax.Array,
        rng: jax.Array,
        mask: jax.Array | None,
        /,
    ) -> tuple[Codes, Refinement] | tuple[Codes, Refinement, Course]:
        """The refinement of a batch; that of an image does not depend on the other images.

        Args:
            G: the generator, with its latent statistics where the space needs them.
            space: of the codes.
            codes: by name, [B, ...].
            images: targets [B, R, R, C] in [-1, 1].
            rng: a key per image, [B].
            mask: [B, R, R] in [0, 1], the weight of each pixel; None counts all.

        Returns:
            codes: by name, [B, ...]; the given ones where the method does not move them.
            refinement: leaves [B, ...]; the images are what `render` makes of both. It is rounded as it is stored.
            course: of a method that takes steps.
        """


def is_shared(refiner: Refiner) -> bool:
    """Whether it makes one refinement for all images of a run together."""
    return getattr(refiner, "shared", False)


def networks_of(G: Generator, method: str) -> Any:
    """The networks of a method that came with a generator, or were attached to it from a file of weights.

    Args:
        method: also the name of their kind.

    Raises:
        LsapError: there are none.
    """
    found = G.parts.get(method)
    if found is None:
        raise LsapError(
            f"method {method!r}: neither this generator nor a file of weights has its networks; name a converted "
            "checkpoint with --weights (weights= in Python), or train them with `lsap-jax train-refiner --config "
            f"train_{method}`"
        )
    return found
