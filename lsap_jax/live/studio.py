"""What all clients share: a generator made ready, its directions and ways, and the run that is open."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lsap_jax.data.source import Align
from lsap_jax.editing.direction import Direction, family
from lsap_jax.errors import LsapError
from lsap_jax.faces.aligner import aligner
from lsap_jax.live.bench import Bench
from lsap_jax.live.embedding import Way, refiners, ways
from lsap_jax.live.gallery import Gallery
from lsap_jax.live.session import Take
from lsap_jax.live.sliders import catalogue
from lsap_jax.models.generator import Generator
from lsap_jax.spaces import Space


@dataclass(frozen=True, kw_only=True)
class Studio:
    """A generator and what can be done with it.

    Attributes:
        name: of the generator, in commands; never a path.
        ways, refiners: from photographs to codes, and beyond.
        directions: by family and name.
        gallery: the run that is open, or None.
        opened: takes that every session begins with.
    """

    bench: Bench
    name: str
    ways: Sequence[Way]
    refiners: Sequence[str]
    directions: Mapping[str, Mapping[str, Direction]]
    gallery: Gallery | None = None
    opened: Sequence[Take] = ()

    @property
    def G(self) -> Generator:
        return self.bench.G

    @cached_property
    def align(self) -> Align:
        """Cuts photographs to their face."""
        return aligner(self.G.img_resolution)

    def direction(self, space: Space, name: str) -> Direction | None:
        """The direction of a name for codes of a space, or None."""
        return self.directions[family(space)].get(name)

    def way(self, name: str) -> Way:
        """The way of a name; LsapError if the generator has none."""
        if (found := next((one for one in self.ways if one.name == name), None)) is None:
            raise LsapError(f"way {name!r}: choose one of {', '.join(one.name for one in self.ways)}")
        return found


def make_studio(
    G: Generator,
    name: str,
    *,
    directions: Sequence[Direction] = (),
    gallery: Gallery | None = None,
    opened: Sequence[Take] = (),
    bench: Bench | None = None,
) -> Studio:
    """A studio of a generator.

    Args:
        name: what commands call the generator: a bundled name, or a file, of which the last part is kept.
        directions: to offer beside those that are bundled with the generator or cached.

    Raises:
        LsapError: the generator is conditional.
    """
    if G.c_dim:
        raise LsapError(f"{Path(name).name}: is conditional; the studio takes generators without classes")
    return Studio(
        bench=bench or Bench(G=G),
        name=Path(name).name,
        ways=ways(G),
        refiners=refiners(G),
        directions=catalogue(G, directions),
        gallery=gallery,
        opened=opened,
    )
