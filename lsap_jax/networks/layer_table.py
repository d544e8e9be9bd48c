"""The layers of a generator as a table, whatever its family: no other module builds or splits their names."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from lsap_jax.errors import LsapError


def check_blocks(img_resolution: int, channels: tuple[int, ...]) -> None:
    """Raises LsapError unless blocks of these channels, from 4 px up, end at this resolution."""
    if img_resolution != 2 << len(channels):
        raise LsapError(
            f"{len(channels)} blocks make images of {2 << len(channels)} px, not of {img_resolution}; give channels "
            "for each resolution from 4 px up"
        )


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of a synthesis network that reads a style.

    Attributes:
        name: of its features, styles and noise.
        row: index into ws of the w that its affine reads.
        width: number of its styles.
        channels: number of features that it makes.
        resolution: side of these features.
        kind: "conv" for layers on the way of the features, "torgb" for those that leave it.
        affine: path of its affine's params in those of the synthesis network.
        styles_features: whether its style acts on the features that it makes (StyleGAN1), not on those that it reads.
    """

    name: str
    row: int
    width: int
    channels: int
    resolution: int
    kind: Literal["conv", "torgb"]
    affine: tuple[str, ...]
    styles_features: bool = False


class LayerTable(ABC):
    """What the layers of a configuration say about it; a family's configuration has `layers` and `num_ws`."""

    channels: tuple[int, ...]
    use_noise: bool
    repeat_w = True  # whether the mapping makes one w for all rows of ws

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Block resolutions, from 4 to that of the image."""
        return tuple(4 << i for i in range(len(self.channels)))

    @property
    def num_ws(self) -> int:
        """Style vectors per image: two for each block."""
        return 2 * len(self.channels)

    @property
    @abstractmethod
    def layers(self) -> tuple[Layer, ...]:
        """The layers that read a style, lowest resolution first: the order of StyleSpace."""

    @property
    def takes_base_code(self) -> bool:
        """Whether the synthesis can start at the features of a layer."""
        return True

    @property
    def layer(self) -> dict[str, Layer]:
        """Name -> layer, in the order of `layers`."""
        return {layer.name: layer for layer in self.layers}

    @property
    def places(self) -> dict[str, Layer]:
        """Names of features that transforms can change -> the layer that makes them: every layer's own, and those of a
        block ("b16"), as the next block reads them.
        """
        last = {f"b{layer.resolution}": layer for layer in self.layers if layer.kind == "conv"}
        return {**self.layer, **{name: layer for name, layer in last.items() if name != f"b{self.resolutions[-1]}"}}

    @property
    def row_layers(self) -> tuple[Layer, ...]:
        """The layer of each row of ws: the conv that reads it, or torgb for a last row that no conv reads."""
        convs = {layer.row: layer for layer in self.layers if layer.kind == "conv"}
        return tuple(layer for layer in self.layers if convs.get(layer.row, layer) is layer)

    @property
    def noise_layers(self) -> dict[str, int]:
        """Layer name -> side of its noise map, lowest resolution first; empty where noise is not used."""
        if not self.use_noise:
            return {}
        return {layer.name: layer.resolution for layer in self.layers if layer.kind == "conv"}

    @property
    def entries(self) -> dict[int, Layer]:
        """Resolution -> layer whose features a base code of that size replaces, the first conv of the block; empty if
        the architecture does not take one.
        """
        found: dict[int, Layer] = {}
        for layer in self.layers if self.takes_base_code else ():
            if layer.kind == "conv":
                found.setdefault(layer.resolution, layer)
        return found

    def first_convolution(self, resolution: int, whose: str) -> Layer:
        """The first convolution of the block of this resolution, whatever the architecture.

        Args:
            whose: networks that change its features, for the error.

        Raises:
            LsapError: there is no such block.
        """
        found = next((one for one in self.layers if one.kind == "conv" and one.resolution == resolution), None)
        if found is None:
            raise LsapError(
                f"{whose} networks change the features of the block of {resolution} px, this generator has blocks of "
                f"{', '.join(map(str, self.resolutions))} px; choose networks that were trained for it"
            )
        return found

    def live_layers(self, base_resolution: int = 0) -> tuple[Layer, ...]:
        """Layers whose styles reach the image: all of them, or those that act on a base code of this size and above."""
        if not base_resolution:
            return self.layers
        entry = self.entries[base_resolution]
        return self.layers[self.layers.index(entry) + (not entry.styles_features) :]
