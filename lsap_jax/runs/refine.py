"""`lsap_jax.refine`, and the refinement of a whole run folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lsap_jax.configuration import filled, load_config, recorded
from lsap_jax.data import from_arrays
from lsap_jax.data.masks import masks_from_arrays
from lsap_jax.encoding.attach import fit_of
from lsap_jax.errors import LsapError
from lsap_jax.inversion.jobs import Job
from lsap_jax.models.generator import Generator
from lsap_jax.rendering.refinement import Refinement, stack
from lsap_jax.rendering.refinement import from_arrays as refinement_from_arrays
from lsap_jax.rendering.render import fitted, space_of
from lsap_jax.runs.finished import finished_images, finished_job
from lsap_jax.runs.generators import with_weights
from lsap_jax.runs.invert import Inversion
from lsap_jax.runs.refining import Refining, RefiningWorker, refining
from lsap_jax.runs.work import Summary, work
from lsap_jax.runs.worker import Failed, Result
from lsap_jax.spaces import Space
from lsap_jax.storage.atomic import sha256
from lsap_jax.storage.results import read_manifest, read_run

Codes = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Refined:
    """Results of `refine`, first axis N throughout.

    Attributes:
        space: pass it to `render` with the codes and the refinement.
        ids: of the images.
        codes: by name.
        refinement: a pytree; `render`, `edit` and `evaluate` take it as `refinement=`.
        images: float32 [N, R, R, C], clipped to [-1, 1], rendered from both.
        metrics: name -> [N]; on the clipped, unquantised images.
        method: its description, as in run.json.
    """

    space: Space
    ids: tuple[str, ...]
    codes: dict[str, np.ndarray]
    refinement: Refinement
    images: np.ndarray
    metrics: dict[str, np.ndarray]
    method: Mapping[str, Any]


def refine(
    G: Generator,
    inv: Inversion | tuple[str | Space, Codes],
    images: np.ndarray,
    method: str,
    *,
    weights: str | None = None,
    seed: int = 0,
    ids: Sequence[str] | None = None,
    batch_size: int | None = None,
    masks: np.ndarray | None = None,
    fit: str = "",
    **overrides: Any,
) -> Refined:
    """Refines images beyond what their codes can represent, by a method of result refinement.

    Args:
        inv: the result of `invert` or `encode`, or (space, codes).
        images: [N, H, W, C], as for `invert`: the targets.
        method: a name of `lsap_jax.refinement.methods.REFINERS`.
        weights: file of the method's networks; those that come with G by default. What renders the images later needs
            G with them, too: `lsap_jax.runs.generators.with_weights`.
        seed: with the ids, it decides the random numbers.
        ids: unique names; those of the inversion by default, else the index as text.
        batch_size: the most images at once, over all local devices; batches are even, and padded to the devices.
        masks: [N, H, W] in [0, 1], the pixels that count.
        fit: how images that are not square were fitted to the generator when they were inverted: crop, pad or bars; by
            default as `encode` does with the encoder that comes with G.
        overrides: options of the method.

    Returns:
        a `Refined`.

    Raises:
        LsapError: no such method or option, codes of another space or of other images, or a refinement that is not
            finite.
    """
    G, space, codes = fitted(G, *((inv.space, inv.codes) if isinstance(inv, Inversion) else inv))
    if ids is None and isinstance(inv, Inversion):
        ids = inv.ids
    config = load_config("encode")
    fit = fit or fit_of(G.encoder, config.fit)
    source = from_arrays(np.asarray(images), ids, resolution=G.img_resolution, channels=G.img_channels, fit=fit)
    count = len(next(iter(codes.values())))
    if count != len(source):
        raise LsapError(f"codes of {count} images and {len(source)} targets: one code per target is needed")
    G = with_weights(G, weights)
    how = refining(G, method, weights, overrides, seed)
    config.batch_size = how.batch_size(batch_size, config.batch_size, len(source))
    worker = RefiningWorker(G, space, config, how, masked=masks is not None)
    mask_of = masks_from_arrays(masks, np.shape(images), G.img_resolution, fit)
    found: list[Result] = []
    for batch in worker.batches(len(source)):
        jobs = [
            Job(
                id=source.ids[i],
                image=source.load(i).image,
                mask=mask_of(i),
                start={key: np.asarray(codes[key][i]) for key in space.keys},
            )
            for i in batch
        ]
        for job, one in zip(jobs, worker(jobs), strict=True):
            if not isinstance(one, Result):
                raise LsapError(f"image {job.id}: {one.reason if isinstance(one, Failed) else 'not computed'}")
            found.append(one)
    return Refined(
        space=space,
        ids=source.ids,
        codes={key: np.stack([one.parts["codes"][key] for one in found]) for key in space.keys},
        refinement=stack([refinement_from_arrays(one.parts["refined"]) for one in found]),
        images=np.stack([one.parts["images"] for one in found]),
        metrics={name: np.array([one.metrics[name] for one in found]) for name in found[0].metrics},
        method=how.record,
    )


def refine_run(
    G: Generator,
    folder: str | Path,
    out: str | Path,
    how: Refining,
    *,
    batch_size: int | None = None,
    masks: Mapping[str, Path] | None = None,
    **options: Any,
) -> Summary:
    """Refines every finished image of a run into the run folder `out`, or finishes the one that is there.

    Targets are the run's; codes, where the method does not move them, are the run's, byte for byte.

    Args:
        G: the generator of the run, with those networks of the method's weights that refinements read
            (`lsap_jax.runs.generators.with_weights`).
        folder: the run, which must not be refined yet.
        batch_size: the most images at once; the run's by default.
        masks: id -> file of its mask (`lsap_jax.data.masks.mask_files`); images that are not in it have none. None is
            to refine without masks, and then `out` is not the folder of a refinement with masks.
        options: of `lsap_jax.runs.work.work`.

    Raises:
        LsapError: nothing is finished in the run, it is refined already, the folder `out` belongs to something else, a
            code, a target or a mask has changed since its image was refined, ….
    """
    folder = Path(folder)
    run, manifest = read_run(folder), read_manifest(folder)
    if Path(out).resolve() == folder.resolve():
        raise LsapError(f"{folder}: is the run that is refined; name another folder for the refinement by --out")
    if not manifest:
        raise LsapError(f"{folder}: has no finished image yet; run its `lsap-jax invert` command again")
    if "refinement" in run:
        raise LsapError(
            f"{folder}: is refined already, by {run['refinement'].get('method')!r}; refine the run that it came from"
        )
    config = recorded(run["config"])
    config.batch_size = how.batch_size(batch_size, config.batch_size, len(manifest))
    if how.shared:  # with other images it is another refinement
        together = sha256("\n".join(sorted(manifest)).encode())
        how = replace(how, record={**how.record, "together": together})
    described = {key: value for key, value in run.items() if key != "format"} | {"config": filled(run["config"])}
    described["run"] = {"name": folder.resolve().name}

    def make(devices: Sequence[jax.Device] | None) -> RefiningWorker:
        return RefiningWorker(G, space_of(run, G), config, how, devices, described=described, masked=masks is not None)

    source = finished_images(folder, manifest, G, masks)
    return work(make, source, out, job=finished_job, recheck=True, **options)
