"""Families by what they can do: a new one is a class and a row of the table, and nobody asks what it is."""

from collections.abc import Collection
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lsap_jax
from lsap_jax.configuration import load_config
from lsap_jax.editing.direction import Direction
from lsap_jax.errors import LsapError
from lsap_jax.inversion.inverter import Inverter
from lsap_jax.inversion.jobs import Job
from lsap_jax.inversion.start import starting_codes
from lsap_jax.spaces import parse_space
from lsap_jax.spaces.family import Flat, reached_rows
from lsap_jax.spaces.space import DETAILS, NAMES
from lsap_jax.testing import tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize("name", NAMES)
def test_what_a_space_says_of_itself(tiny, name):
    space = parse_space(name, base_resolution=8, noise_sides=(4, 8))
    family = name.removeprefix("f/").removesuffix("+")
    assert space.on_sphere == (family == "z") and space.is_w == (family == "w") and space.has_ws == (family != "s")
    assert space.per_layer == name.endswith("+") == (len(space.shape(tiny)) == 2)
    assert space.needs_statistics == (family == "pn")
    groups = {space.key: "detail", **({"f": "base"} if space.has_base else {}), "noise": "noise"}
    assert space.groups == groups and space.keys == tuple(groups)
    assert space.base_resolution == (8 if space.has_base else 0)
    easy = space.in_w()
    assert easy.name == ("f/w" if space.has_base else "w") and easy.keys[1:] == space.keys[1:]
    assert (easy.base_resolution, easy.noise_sides) == (space.base_resolution, (4, 8))
    assert parse_space(name, base_resolution=8, noise_mode="none").in_w().noise_mode == "none"


def test_who_shares_codes():
    def shared(a, b, **options):
        return parse_space(a, **options).shares_codes(parse_space(b))

    assert shared("w", "w+") and shared("f/w", "w+") and shared("z", "f/z+") and shared("z", "z", normalise=True)
    assert shared("pn", "pn+") and not shared("pn", "pn", eigenvalue_floor=0.1) and not shared("p", "pn")
    assert not any(shared(a, b) for a, b in (("z", "w"), ("w", "p"), ("s", "w"), ("s", "z")))


@pytest.mark.parametrize("name", NAMES)
def test_rows_reach_what_reads_them(tiny, name):
    space, every = parse_space(name), range(tiny.num_ws)
    shape = space.shape(tiny)
    assert np.broadcast_to(space.reached(tiny, every), shape).all()
    some = space.reached(tiny, [1, 2])
    if space.has_ws and not space.per_layer:
        assert some is None
    elif space.per_layer:
        np.testing.assert_array_equal(np.broadcast_to(some, shape).all(axis=1), [row in (1, 2) for row in every])
    else:
        widths = [layer.width * (layer.row in (1, 2)) for layer in tiny.config.layers]
        assert some.shape == shape and some.sum() == sum(widths)


@dataclass(frozen=True, kw_only=True)
class Doubled(Flat):
    """Half of the distance of w from its mean, as a family that nobody has heard of."""

    per_layer: bool
    key = "d"
    needs_statistics = False
    has_ws = True
    is_w = False

    def shape(self, G):
        return (G.num_ws, G.w_dim) if self.per_layer else (G.w_dim,)

    def init(self, G, rng, source):
        assert source == "w_avg"
        return jnp.zeros((len(rng), *self.shape(G)))

    def from_ws(self, G, ws):
        d = (ws - G.w_avg[None, None]) / 2
        return d if self.per_layer else d.mean(1)

    def decode(self, G, code):
        rows = code if self.per_layer else G.repeat_w(code)
        return {"ws": G.w_avg[None, None] + 2 * rows}

    def reached(self, G, rows: Collection[int]):
        return reached_rows(G, rows, self.per_layer)


@pytest.fixture
def doubled(monkeypatch):
    monkeypatch.setitem(DETAILS, "d+", Doubled(per_layer=True))


@pytest.mark.slow
@pytest.mark.usefixtures("full_compilation")
def test_a_new_family_is_a_row_of_the_table(tiny, doubled):
    images, space = tiny_images(2), parse_space("d+")
    options = {"perceptual.network": "none", "steps": 20, "chunk": 21, "batch_size": 2, "optimizer.lr": 0.05}
    inverter = Inverter(tiny, load_config("w+", {**options, "space": "d+", "loss.delta": 1e-3}))
    results = inverter([Job(id=str(i), image=image) for i, image in enumerate(images)])
    codes = {"d": np.stack([result.codes["d"] for result in results])}
    for result in results:
        assert result.curve["loss"][-1] < 0.95 * result.curve["loss"][0] and "delta" in result.curve
    shown = np.stack([result.image for result in results])
    np.testing.assert_array_equal(lsap_jax.render(tiny, space, codes), shown)
    by_w = lsap_jax.render(tiny, "w+", {"w": np.asarray(space.decode(tiny, codes).ws)})
    np.testing.assert_allclose(by_w, shown, atol=1e-4)

    direction = Direction(name="any", space="d", vector=np.ones(tiny.w_dim, np.float32))
    edited = lsap_jax.edit(tiny, space, codes, direction, [0, 1], layers="2-3")
    np.testing.assert_array_equal(edited.codes["d"][0], codes["d"])
    moved = np.abs(edited.codes["d"][1] - codes["d"]).max(axis=(0, 2))
    np.testing.assert_allclose(moved, [0, 0, 1, 1, 0, 0], atol=1e-6)
    with pytest.raises(LsapError, match=r"space d\+ is flat"):
        lsap_jax.edit(tiny, space, codes, direction, [1], unit="angle")

    given = {"a": {"w": np.asarray(jax.random.normal(jax.random.key(0), (tiny.num_ws, tiny.w_dim)))}}
    start, residuals = starting_codes(tiny, space, "w", given)
    np.testing.assert_allclose(2 * start["a"]["d"] + np.asarray(tiny.w_avg), given["a"]["w"], atol=1e-5)
    assert residuals.max() < 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retraction": "riemannian"}, r"is for z spaces; space d\+ is flat"),
        ({"latent_noise.scale": 0.1}, r"is noise on w, space d\+ has none"),
    ],
)
def test_a_new_family_is_refused_what_it_cannot_do(tiny, doubled, options, message):
    with pytest.raises(LsapError, match=message):
        Inverter(tiny, load_config("w+", {**options, "space": "d+"}))
    with pytest.raises(LsapError, match="unknown space 'f/d"):
        parse_space("f/d+")
