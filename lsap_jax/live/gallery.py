"""The finished images of a run folder, for the page to choose from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lsap_jax.configuration import recorded
from lsap_jax.errors import LsapError
from lsap_jax.live.bench import Bench, Codes, as_batch
from lsap_jax.live.session import Take
from lsap_jax.models.generator import Generator
from lsap_jax.rendering.refinement import read_refinement
from lsap_jax.rendering.render import space_of
from lsap_jax.spaces import Space
from lsap_jax.storage.results import Record, read_code, read_image, read_manifest

SHOWN = 12  # pictures at once


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """A run whose codes may be moved.

    Attributes:
        folder: of the run.
        space: of its codes.
        manifest: of the folder.
        aligned: whether its pictures were cut to their faces.
    """

    folder: Path
    space: Space
    manifest: Mapping[str, Record]
    aligned: bool = False

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    def matching(self, query: str) -> list[str]:
        """Ids that contain a text, in order."""
        return [id for id in sorted(self.manifest) if query.casefold() in id.casefold()]

    def take(self, bench: Bench, key: str, id: str) -> Take:
        """A finished image as a take.

        Raises:
            LsapError: no such image, or a file of it has changed.
        """
        if id not in self.manifest:
            raise LsapError(f"{id}: is not a finished image of the run")
        read = read_code(self.folder, id, manifest=self.manifest)
        codes: Codes = as_batch(read)
        own = read_refinement(self.folder, id, self.manifest)
        refinement = None if own is None else as_batch(own)
        bench.warm(self.space, codes, refinement)
        record = self.manifest[id]
        return Take(
            key=key,
            id=id.rpartition("/")[2],
            label=f"{self.name}, {self.space.name}",
            space=self.space,
            codes=codes,
            refinement=refinement,
            picture=bench.picture(self.space, codes, refinement),
            target=read_image(self.folder, id, "targets", manifest=self.manifest)
            if "targets" in record["sha256"]
            else None,
            photo=f"run:{id}",
            metrics={name: value for name, value in record["metrics"].items() if abs(value) < float("inf")},
            run=self.name,
        )


def gallery(folder: Path, run: Record, G: Generator) -> Gallery:
    """The finished images of a run.

    Args:
        run: the contents of its run.json.
        G: its generator.

    Raises:
        LsapError: there are none, or run.json is not one.
    """
    if not (manifest := read_manifest(folder)):
        raise LsapError(f"{folder}: has no finished image yet; run its command again")
    aligned = bool(recorded(run.get("config")).align)
    return Gallery(folder=folder, space=space_of(run, G), manifest=manifest, aligned=aligned)
