"""What each client has: photographs and takes, in memory alone, within limits."""

import itertools
import secrets
import threading
import time
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from lsap_jax.editing.direction import Direction, family
from lsap_jax.errors import LsapError
from lsap_jax.live.bench import data_url
from lsap_jax.rendering.refinement import Refinement
from lsap_jax.spaces import Space

MOST_SESSIONS = 64
MOST_TAKES = 40
MOST_PHOTOS = 12
MOST_DIRECTIONS = 100


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A photograph at the generator's resolution.

    Attributes:
        key: in its session.
        id: of results, made of the file's name.
        file: the name itself, without folders.
        image: uint8 [R, R, C].
        aligned: whether it was cut to its face.
        notes: what was done to it, in words.
    """

    key: str
    id: str
    file: str
    image: np.ndarray
    aligned: bool
    notes: tuple[str, ...]

    @cached_property
    def url(self) -> str:
        """The picture as an address, made once: a page that is loaded again must not hold up sliders."""
        return data_url(self.image)


@dataclass(frozen=True, kw_only=True)
class Take:
    """Codes that pictures are made of.

    Attributes:
        key: in its session.
        id: of results.
        label: for people.
        space: of the codes.
        codes: by name, first axis 1.
        refinement: first axis 1, or None.
        picture: uint8 [R, R, C], unedited.
        target: what it reconstructs, uint8 [R, R, C], or None for what never was a picture.
        photo: key of the photograph, or "".
        metrics: by name.
        run: the run folder that holds these codes once `commands` are done; "" where no command makes one.
        commands: the command lines, none where the folder is there already.
    """

    key: str
    id: str
    label: str
    space: Space
    codes: Mapping[str, np.ndarray]
    refinement: Refinement | None = None
    picture: np.ndarray
    target: np.ndarray | None = None
    photo: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    run: str = ""
    commands: tuple[tuple[str, ...], ...] = ()

    @cached_property
    def url(self) -> str:
        """The picture as an address, made once."""
        return data_url(self.picture)

    @cached_property
    def target_url(self) -> str | None:
        """The target as an address, made once; None where there is none."""
        return None if self.target is None else data_url(self.target)


@dataclass(kw_only=True)
class Session:
    """What a client has."""

    client: str = ""
    photos: dict[str, Photo] = field(default_factory=dict)
    takes: dict[str, Take] = field(default_factory=dict)
    directions: dict[tuple[str, str], Direction] = field(default_factory=dict)
    used: float = 0.0
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def next_key(self, kind: str) -> str:
        """A key that was not used before."""
        return f"{kind}{next(self._numbers)}"

    def add_photo(self, photo: Photo) -> None:
        """Keeps a photograph; LsapError where there are too many."""
        _check_room(self.photos, MOST_PHOTOS, "photographs")
        self.photos[photo.key] = photo

    def add_take(self, take: Take) -> None:
        """Keeps a take; LsapError where there are too many."""
        self.check_room()
        self.takes[take.key] = take

    def add_direction(self, direction: Direction) -> None:
        """Keeps a direction that the client had found; LsapError where there are too many."""
        _check_room(self.directions, MOST_DIRECTIONS, "directions")
        self.directions[direction.space, direction.name] = direction

    def direction(self, space: Space, name: str) -> Direction | None:
        """Such a direction for codes of a space, or None."""
        return self.directions.get((family(space), name))

    def check_room(self) -> None:
        """Raises LsapError where another take would be too many."""
        _check_room(self.takes, MOST_TAKES, "takes")

    def photo(self, key: str) -> Photo:
        """A photograph; LsapError if it is not there."""
        if key not in self.photos:
            raise LsapError("this photograph is no longer there; drop it again")
        return self.photos[key]

    def take(self, key: str) -> Take:
        """A take; LsapError if it is not there."""
        if key not in self.takes:
            raise LsapError("this take is no longer there; make it again")
        return self.takes[key]


class Sessions:
    """The sessions of all clients; the one that was unused for longest makes room for a new one."""

    def __init__(self, most: int = MOST_SESSIONS) -> None:
        self._most, self._all, self._mutex = most, dict[str, Session](), threading.Lock()

    def find(self, client: str) -> Session | None:
        """The session of a client, or None."""
        with self._mutex:
            session = self._all.get(client)
            if session is not None:
                session.used = time.monotonic()
            return session

    def new(self) -> Session:
        """A session under a name that nobody can guess."""
        with self._mutex:
            while len(self._all) >= self._most:
                del self._all[min(self._all, key=lambda client: self._all[client].used)]
            session = Session(client=secrets.token_urlsafe(24), used=time.monotonic())
            self._all[session.client] = session
            return session


def _check_room(kept: Sized, most: int, what: str) -> None:
    if len(kept) >= most:
        raise LsapError(f"there are {most} {what} already; remove one first")
