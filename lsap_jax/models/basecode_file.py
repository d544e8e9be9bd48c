"""Base-code encoders in files: a converted or trained one by itself, BDInvert's checkpoints, and joining one to its
generator.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from convert_weights.checkpoint import Checkpoint
from lsap_jax.errors import LsapError
from lsap_jax.models.generator import BasecodeEncoder, Generator
from lsap_jax.networks.basecode import (
    STAGES,
    BasecodeConfig,
    canonical_from_variables,
    variable_shapes,
    variables_from_canonical,
)
from lsap_jax.storage import weights_file

KIND = "basecode"
PAPER_RESOLUTION = 16


def basecode_from_checkpoint(checkpoint: Checkpoint, base_resolution: int = PAPER_RESOLUTION) -> BasecodeEncoder:
    """Encoder of a `convert_weights.Checkpoint` of kind "basecode_encoder".

    Args:
        base_resolution: s, which the weights of a convolutional network do not tell; BDInvert's public file has 16.

    Raises:
        LsapError: the checkpoint holds something else, or tensors are missing, left over or of another shape.
    """
    if checkpoint.kind != "basecode_encoder":
        raise LsapError(
            f"this file holds {checkpoint.kind!r} weights ({checkpoint.format}), not a base-code encoder; choose the "
            "encoder's file"
        )
    found = checkpoint.config
    if len(found["widths"]) != len(STAGES):
        raise LsapError(
            f"this encoder has {len(found['widths'])} stages of widths {found['widths']}; only encoders of "
            f"{len(STAGES)} stages, which reduce images by 8, are supported"
        )
    config = BasecodeConfig(
        base_resolution=base_resolution,
        out_channels=found["out_channels"],
        widths=tuple(found["widths"]),
        in_channels=found["in_channels"],
    )
    return BasecodeEncoder(config=config, variables=variables_from_canonical(config, checkpoint.arrays))


def save_basecode(path: str | Path, encoder: BasecodeEncoder, provenance: Mapping[str, Any]) -> str:
    """Write one safetensors file for `load_basecode`, with canonical names and layouts; returns its digest."""
    arrays = canonical_from_variables(encoder.config, encoder.variables)
    return weights_file.write_weights(path, KIND, arrays, asdict(encoder.config), provenance)


def load_basecode(path: str | Path, base_resolution: int = PAPER_RESOLUTION) -> BasecodeEncoder:
    """Encoder of a file of `save_basecode`, or of a BDInvert checkpoint (.pth) converted on the fly.

    Args:
        base_resolution: for a BDInvert checkpoint, see `basecode_from_checkpoint`; the other files know theirs.

    Raises:
        LsapError, ConversionError: there is no such file, it is damaged, or it holds something else.
    """
    if not Path(path).is_file():
        raise LsapError(f"{path}: no such file; give a base-code encoder's file")
    if not weights_file.is_weights_file(path):
        from convert_weights import read

        return basecode_from_checkpoint(read(path), base_resolution)
    kind, arrays, config, _ = weights_file.read_weights(path)
    if kind != KIND:
        raise LsapError(f"{path}: holds {kind!r} weights, not a base-code encoder; choose the encoder's file")
    try:
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
        shape = BasecodeConfig(**fields)
        return BasecodeEncoder(config=shape, variables=variables_from_canonical(shape, arrays))
    except (LsapError, TypeError, ValueError) as error:
        raise LsapError(
            f"{path}: its header and its tensors do not belong together ({error}); convert it again"
        ) from error


def attach_basecode(G: Generator, encoder: BasecodeEncoder) -> Generator:
    """G with this encoder; `save` then writes both into one file.

    Raises:
        LsapError: the encoder's base code fits no block of G, its images have other channels, or its variables are not
            of its configuration.
    """
    config = encoder.config
    blocks = dict(zip(G.config.resolutions, G.config.channels, strict=True))
    if G.config.architecture != "skip":
        raise LsapError(
            f"base codes need a generator of architecture 'skip', this one is '{G.config.architecture}'; use z or z+"
        )
    if blocks.get(config.base_resolution) != config.out_channels or config.in_channels != G.img_channels:
        raise LsapError(
            f"the encoder makes base codes of {config.base_resolution} px with {config.out_channels} channels from "
            f"images with {config.in_channels}; this generator has px: channels {blocks} and images with "
            f"{G.img_channels}; train an encoder for it with `lsap-jax train-basecode`"
        )
    wanted = {path: leaf.shape for path, leaf in flatten_dict(variable_shapes(config)).items()}
    found = {path: np.shape(leaf) for path, leaf in flatten_dict(dict(encoder.variables)).items()}
    if wanted != found:
        path = sorted(p for p in wanted.keys() | found.keys() if wanted.get(p) != found.get(p))[0]
        raise LsapError(
            f"basecode/{'/'.join(path)} is {found.get(path)}, its configuration asks for {wanted.get(path)}; load or "
            "train the encoder again"
        )
    return G.replace(basecode=encoder)
