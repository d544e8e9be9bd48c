"""The contents of a container, before the dialect is known."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from convert_weights.builders import Array
from convert_weights.checkpoint import ConversionError
from convert_weights.pickle_limits import MAX_STEPS
from convert_weights.places import MAX_DEPTH, flattened, shared_prefix
from convert_weights.tensors import Tensor

Flat = Mapping[str, Tensor]


class Structure:
    """The object in a file, and its tensors by name.

    Attributes:
        root: a dict, a tensor, a node of a pickle, a tuple of them, or the `Archive` of a wheel.
        container: the kind of container, e.g. "torch file" or ".npz"; part of the format's name.
    """

    def __init__(self, root: Any, container: str) -> None:
        self.root, self.container = root, container

    @property
    def placed(self) -> str:
        """The container with its article."""
        return f"{'an' if self.container.startswith('.') else 'a'} {self.container}"

    @property
    def mapping(self) -> dict:
        """The root if it is a dict, else an empty dict."""
        return self.root if isinstance(self.root, dict) else {}

    @cached_property
    def tensor(self) -> Tensor | None:
        """The root if it is a single tensor, else None."""
        root = self.root.tensor if isinstance(self.root, Array) else self.root
        return root if isinstance(root, Tensor) else None

    @cached_property
    def own(self) -> Flat:
        """The tensors directly in the root."""
        return _tensors(self.mapping)

    @cached_property
    def parts(self) -> Mapping[str, Flat]:
        """The tensors in each dict of the root that holds tensors."""
        dicts = {str(k): v for k, v in self.mapping.items() if isinstance(v, dict)}
        if sum(map(len, dicts.values())) > MAX_STEPS:
            raise ConversionError("holds the same entries under many names; refused as hostile")
        inside = {name: _tensors(value) for name, value in dicts.items()}
        return {name: flat for name, flat in inside.items() if flat}

    @cached_property
    def everything(self) -> Flat:
        """All tensors in nested dictionaries, by their names with the keys before them (`places`)."""
        return flattened(self.mapping)

    @cached_property
    def entries(self) -> list[str]:
        """The names of `everything`, and of the root's dictionaries and lists that hold no tensor."""
        full = {name.partition("/")[0] for name in self.everything}
        empty = [
            f"{key}/" if isinstance(value, dict) else str(key)
            for key, value in self.mapping.items()
            if isinstance(value, (dict, list)) and str(key) not in full
        ]
        return [*self.everything, *empty]

    def views(self) -> Iterator[tuple[str, "Structure"]]:
        """The state dicts inside this one as files of their own, with their places: those in dictionaries, and each
        without the prefixes that all its names share.
        """
        folders: dict[str, dict[str, Tensor]] = {}
        for name, tensor in self.everything.items():
            head, slash, leaf = name.rpartition("/")
            folders.setdefault(head + slash, {})[leaf] = tensor
        for place, flat in folders.items():
            if place:
                yield place, Structure(flat, self.container)
            for _ in range(MAX_DEPTH):
                if (word := shared_prefix(flat)) is None:
                    break
                place, flat = place + word, {name.removeprefix(word): tensor for name, tensor in flat.items()}
                yield place, Structure(flat, self.container)

    def with_tensor(self, name: str) -> Flat | None:
        """The first set of tensors with this name among the root's own and those of the parts."""
        return next((flat for flat in (self.own, *self.parts.values()) if name in flat), None)


def _tensors(value: Mapping) -> dict[str, Tensor]:
    """The tensors directly in a dict, numpy arrays included."""
    plain = {str(k): v.tensor if isinstance(v, Array) else v for k, v in value.items()}
    return {k: v for k, v in plain.items() if isinstance(v, Tensor)}
