"""Run folders without an optimisation: random codes and what they render to, for tests of what is done with runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lsap_jax.configuration import load_config
from lsap_jax.models.generator import Generator
from lsap_jax.pixels import to_uint8
from lsap_jax.rendering.refinement import Refinement, by_signature, to_arrays
from lsap_jax.rendering.render import render
from lsap_jax.spaces import space_from_config
from lsap_jax.spaces.feature import own_feature
from lsap_jax.storage.run_folder import RunFolder


def write_run(
    folder: Path,
    G: Generator,
    generator: Path,
    space: str,
    ids: tuple[str, ...],
    targets: np.ndarray | None = None,
    refinements: Sequence[Refinement | None] = (),
    crops: Sequence[Mapping[str, Any] | None] = (),
) -> Path:
    """A finished run of `ids` by the generator in a file.

    Args:
        targets: uint8; what the codes alone render to if not given.
        refinements: of single images, None where one is not refined; none is if not given.
        crops: where each was cut out; none was if not given.
    """
    config = load_config(space, {"steps": 2})
    where = space_from_config(config, G)
    rng = np.random.default_rng(0)
    codes = {where.detail.key: rng.standard_normal((len(ids), *where.detail.shape(G)), dtype=np.float32)}
    if where.has_base:
        f = np.asarray(own_feature(G, where.base_resolution))
        codes["f"] = f + rng.standard_normal((len(ids), *f.shape[1:]), dtype=np.float32)
    codes = {key: np.asarray(a) for key, a in where.retract(codes).items()}
    images = plain = render(G, where, codes)
    if refinements:
        images = by_signature(lambda own, codes: render(G, where, codes, refinement=own), refinements, codes)
    record = {
        "config": config.to_dict(),
        "seed": 0,
        "space": where.name,
        "base_resolution": where.base_resolution if where.has_base else None,
        "generator": {"name": str(generator), "sha256": G.sha256, "img_resolution": G.img_resolution},
    }
    if refinements:
        record["refinement"] = {"method": "made", "options": {"share": 1.0}}
    with RunFolder.open(folder, record) as run:
        for i, id in enumerate(ids):
            code = {key: a[i] for key, a in codes.items()}
            target = to_uint8(plain[i]) if targets is None else targets[i]
            own = refinements[i] if refinements else None
            parts = {} if own is None else {"refined": to_arrays(own)}
            crop = crops[i] if crops else None
            run.write(
                id, crop=crop, codes=code, images=images[i], targets=target, metrics={}, input_sha256="0" * 64, **parts
            )
        run.finish()
    return folder
