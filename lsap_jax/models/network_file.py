"""Networks in files: loads, joins and saves the networks of `registry.KINDS`.

A file holds one network, or a generator with the parts that come with it, or it is an original checkpoint that
`convert_weights` reads on the fly. In each case every tensor is used once, every leaf filled, every shape checked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from convert_weights.checkpoint import Checkpoint
from convert_weights.convert import model_leaves
from lsap_jax.errors import LsapError
from lsap_jax.models.encoder import Encoder
from lsap_jax.models.generator import Generator
from lsap_jax.models.registry import KINDS, Facts, companions, encoders
from lsap_jax.networks.parameters import LEAVES, Layout, merge, stored
from lsap_jax.storage import weights_file

SEVERAL = "generator"  # the kind of files with several parts, whose tensors are named PART/...


class Part(NamedTuple):
    """One network of a file, before it is built."""

    header: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    layout: Layout


@dataclass(frozen=True)
class Contents:
    """The contents of a file.

    Attributes:
        name: of the file, for errors.
        kind: the one in its header, or that of the first part of a checkpoint.
        parts: kind -> the network.
        provenance: where the weights come from.
        refused: kind -> why a network that is there is not among the parts.
        known: whether the file is the package's own, whose shapes its tests compare: `build` takes them as they are,
            which saves a trace of every network in each command.
    """

    name: str
    kind: str
    parts: Mapping[str, Part]
    provenance: Mapping[str, Any]
    refused: Mapping[str, str] = field(default_factory=dict)
    known: bool = False

    def build(self, kind: str, **untold: Any) -> Any:
        """The network of a part, in the class that holds it.

        Args:
            untold: entries of its configuration that the file lacks.

        Raises:
            LsapError: its header and its tensors do not belong together.
        """
        if kind not in KINDS:
            raise LsapError(f"{self.name}: has a part {kind!r}, which this version does not know; install a newer one")
        row, part = KINDS[kind], self.parts[kind]
        try:
            config = row.config({**untold, **part.header})
            shapes = _own_shapes(part.arrays) if self.known else row.shapes(config)
            params = merge(shapes, part.arrays, row.what, part.layout)
            return row.holder(config, params, Facts(part.header, self.provenance))
        except LsapError as error:
            raise LsapError(f"{self.name}: {error}; {row.remedy}") from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise LsapError(
                f"{self.name}: its header and its tensors do not belong together ({error}); {row.remedy}"
            ) from error


def _own_shapes(arrays: Mapping[str, np.ndarray]) -> Any:
    """The tree of a part whose arrays are named PART/... in a file with several."""
    return unflatten_dict({tuple(name.split("/")[1:]): array for name, array in arrays.items()})


def read(path: str | Path) -> Contents:
    """The contents of a converted file, after checking its digest, or of an original checkpoint.

    Raises:
        LsapError, ConversionError: there is no such file, or it is damaged.
    """
    if not Path(path).is_file():
        raise LsapError(f"{path}: no such file")
    if not weights_file.is_weights_file(path):
        from convert_weights import read

        return from_checkpoint(read(path), str(path))
    kind, arrays, config, provenance = weights_file.read_weights(path)
    if kind != SEVERAL:
        layout = KINDS[kind].layout if kind in KINDS else LEAVES
        return Contents(str(path), kind, {kind: Part(config, arrays, layout)}, provenance)
    return Contents(str(path), kind, _parted(str(path), arrays, config), provenance)


def _parted(path: str, arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> dict[str, Part]:
    """The networks of a file with several parts."""
    own: dict[str, dict[str, np.ndarray]] = {name: {} for name in config}
    for name, array in arrays.items():
        if (part := name.partition("/")[0]) not in own:
            raise LsapError(
                f"{path}: its header and its tensors do not belong together (no part for {name}); convert the original "
                "again"
            )
        own[part][name] = array
    return {name: Part(config[name], own[name], LEAVES.under(f"{name}/")) for name in config}


def from_checkpoint(checkpoint: Checkpoint, name: str = "this file") -> Contents:
    """The contents of a checkpoint that `convert_weights` has read; `name` is for errors. The arrays of a generator and
    of what comes with it are taken out of the checkpoint.
    """
    kind, provenance = checkpoint.kind, checkpoint.provenance
    if kind == SEVERAL:
        config = {own: part.config for own, part in checkpoint.parts.items()}
        parts = _parted(name, model_leaves(checkpoint), config)
        return Contents(name, kind, parts, provenance, checkpoint.refused)
    parts = {
        own: Part(part.config, part.arrays, KINDS[own].layout if own in KINDS else LEAVES)
        for own, part in checkpoint.parts.items()
    }
    provenance["sha256"] = weights_file.digest(parts[kind].arrays)
    return Contents(name, kind, parts, provenance, checkpoint.refused)


def load(path: str | Path | None, *kinds: str, **untold: Any) -> Any:
    """The network of one of these kinds in a converted file or an original checkpoint.

    Args:
        path: the file; None, if no file was given, is refused with the way to get one.
        kinds: names in `KINDS`; the first that the file has is taken.
        untold: entries of the configuration that a checkpoint lacks (`base_resolution` of a base-code encoder).

    Raises:
        LsapError, ConversionError: there is no such file, it is damaged or incomplete, or it holds something else.
    """
    what, remedy = " or ".join(KINDS[kind].what for kind in kinds), KINDS[kinds[0]].remedy
    if path is None:
        raise LsapError(f"no file of {what} was given; {remedy}")
    if not Path(path).is_file():
        raise LsapError(f"{path}: no such file; {remedy}")
    contents = read(path)
    kind = next((kind for kind in kinds if kind in contents.parts), None)
    if kind is None:
        for reason in (contents.refused[kind] for kind in kinds if kind in contents.refused):
            raise LsapError(f"{path}: {reason}")
        raise LsapError(f"{path}: holds {contents.kind!r} weights, not {what}; {remedy}")
    return contents.build(kind, **untold)


def load_encoder(path: str | Path) -> Encoder:
    """The encoder of images to ws in a file of this package or an original checkpoint (pSp, e4e, LSAP, ReStyle, the W
    encoder of HyperStyle, IDInvert), alone or with its generator.

    Raises:
        LsapError, ConversionError: there is no such file, it is damaged, or there is no encoder in it that is known.
    """
    found: Encoder = load(path, *encoders())
    return found


def attach(G: Generator, part: Any) -> Generator:
    """G with this network, of a companion kind, as its part of that kind; `save` writes both into one file.

    Raises:
        LsapError: it does not fit G, or its params do not match its configuration.
    """
    part.check_fits(G.config)
    trees = dict(KINDS[part.kind].shapes(part.config)), dict(part.params)
    wanted, found = ({path: tuple(np.shape(leaf)) for path, leaf in flatten_dict(tree).items()} for tree in trees)
    wrong = sorted(p for p in wanted.keys() | found.keys() if wanted.get(p) != found.get(p))
    if wrong:
        raise LsapError(
            f"{part.kind}/{'/'.join(wrong[0])} is {found.get(wrong[0])}, its configuration asks for "
            f"{wanted.get(wrong[0])}; load or train the network again"
        )
    return G.with_part(part.kind, part)


def attach_file(G: Generator, path: str | Path, **untold: Any) -> Generator:
    """G with the network in a file, e.g. a base-code or latent encoder; `KINDS` marks the companion kinds.

    Raises:
        LsapError, ConversionError: see `load` and `attach`.
    """
    return attach(G, load(path, *companions(), **untold))


def save(path: str | Path, network: Any, provenance: Mapping[str, Any]) -> str:
    """Write one network as a file for `load`; returns the digest of its tensors. A generator has its own `save`."""
    row = KINDS[network.kind]
    arrays = row.arrays(stored(network.params))
    return weights_file.write_weights(path, row.name, arrays, row.header(network), provenance)
