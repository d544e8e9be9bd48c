"""The base-code encoder of F spaces with its weights."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
from flax import struct

from lsap_jax.errors import LsapError
from lsap_jax.networks import basecode
from lsap_jax.networks.bounds import checked
from lsap_jax.networks.families import GeneratorConfig
from lsap_jax.networks.image_by_image import on_batch

NO_ENTRY = "base codes need a StyleGAN2 of architecture 'skip' or a StyleGAN1, this generator is neither; use z or z+"
PAPER_RESOLUTION = 16  # s of BDInvert's public file; the weights of a convolutional network do not determine it


class BasecodeEncoder(struct.PyTreeNode, kw_only=True):
    """Base-code encoder E of F/Z+: image to f. `params` are the variables {"params", "batch_stats"} of its network."""

    kind: ClassVar[str] = "basecode"
    config: basecode.BasecodeConfig = struct.field(pytree_node=False)
    params: Mapping[str, Any]

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, 8s, 8s, C] in [-1, 1] to base codes [B, s, s, channels]."""
        return on_batch(_base_code, self, {"x": x})  # type: ignore[no-any-return]

    def check_fits(self, generator: GeneratorConfig) -> None:
        """Raises LsapError if the base code fits no block of this generator, or its images have other channels."""
        config = self.config
        blocks = {r: layer.channels for r, layer in generator.entries.items()}
        if not blocks:
            raise LsapError(NO_ENTRY)
        if blocks.get(config.base_resolution) != config.out_channels or config.in_channels != generator.img_channels:
            raise LsapError(
                f"the encoder makes base codes of {config.base_resolution} px with {config.out_channels} channels from "
                f"images with {config.in_channels} channels; this generator has blocks (px: channels) {blocks} and "
                f"images with {generator.img_channels} channels; train an encoder for it with `lsap-jax train-basecode`"
            )


def basecode_config(header: Mapping[str, Any]) -> basecode.BasecodeConfig:
    """Configuration from a file's header, or from a checkpoint, which lacks `base_resolution`.

    Raises:
        LsapError: the encoder has another number of stages than BDInvert's.
        TypeError: an entry is missing or unknown.
    """
    if len(header["widths"]) != len(basecode.STAGES):
        raise LsapError(
            f"this encoder has {len(header['widths'])} stages; only encoders of {len(basecode.STAGES)} stages, which "
            "reduce images by 8, are supported"
        )
    return checked(basecode.BasecodeConfig, {"base_resolution": PAPER_RESOLUTION, **header})


def _base_code(E: BasecodeEncoder, batch: Mapping[str, Any]) -> jax.Array:
    return basecode.BasecodeNetwork(E.config).apply(E.params, batch["x"])  # type: ignore[return-value]
