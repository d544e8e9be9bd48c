"""The registry of networks: every kind loads strictly, comes with a generator, and a new one is a row."""

import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import foreign_dialects as dialects
import foreign_files as files
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.encoding.attach import with_encoder
from lsap_jax.errors import LsapError
from lsap_jax.models.basecode import BasecodeEncoder
from lsap_jax.models.encoder import Encoder
from lsap_jax.models.generator_file import load_generator
from lsap_jax.models.latent_encoder import LatentEncoder
from lsap_jax.models.network_file import attach, attach_file, load, load_encoder, save
from lsap_jax.models.registry import KINDS, Kind, holding, of
from lsap_jax.networks import basecode, latent_encoder
from lsap_jax.networks.attributes import AttributesConfig, initial_params
from lsap_jax.networks.basecode import BasecodeConfig
from lsap_jax.networks.face_parser import FaceParserConfig
from lsap_jax.networks.hfgi import HfgiConfig
from lsap_jax.networks.hyperstyle import HyperConfig
from lsap_jax.networks.invertibility import InvertibilityConfig
from lsap_jax.networks.latent_encoder import LatentEncoderConfig
from lsap_jax.networks.parameters import LEAVES, halved
from lsap_jax.networks.psp import PspConfig
from lsap_jax.networks.styleres import StyleResConfig
from lsap_jax.networks.view import View, square
from lsap_jax.runs.generators import attached
from lsap_jax.storage.weights_file import read_weights, write_weights
from lsap_jax.testing import random_leaves, tiny_generator

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def G():
    return tiny_generator()


def latent(G, seed=0, **changes):
    config = LatentEncoderConfig(**{"num_ws": G.num_ws, "w_dim": G.w_dim, "widths": (4, 6), **changes})
    shapes = latent_encoder.variable_shapes(config)
    return LatentEncoder(config=config, params=random_leaves(shapes, np.random.default_rng(seed)))


def base(seed=0, **changes):
    config = BasecodeConfig(**{"base_resolution": 4, "out_channels": 8, "widths": (2, 2, 3), **changes})
    shapes = basecode.variable_shapes(config)
    return BasecodeEncoder(config=config, params=random_leaves(shapes, np.random.default_rng(seed)))


def classifier():
    from lsap_jax.models.attributes import Attributes

    config = AttributesConfig(labels=(("colour", ("red", "blue")),), resolution=8, widths=(4, 6))
    return Attributes(config=config, params=initial_params(config, jax.random.key(0)), binary={})


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def test_rows_are_named_by_their_kinds():
    assert all(name == kind.name and kind.what and kind.remedy for name, kind in KINDS.items())
    assert {KINDS[part.kind].name for part in (latent(tiny_generator()), base(), classifier())} < KINDS.keys()


@pytest.mark.parametrize("kind", ["basecode", "encoder", "attributes"])
def test_a_file_of_one_kind_is_read_strictly(tmp_path, G, kind):
    network = {"basecode": base, "encoder": lambda: latent(G), "attributes": classifier}[kind]()
    path = tmp_path / "one"
    digest = save(path, network, {"name": "one", "sha256": "left out"})
    again = load(path, kind)
    assert again.config == network.config and same(again.params, network.params)
    assert save(tmp_path / "two", again, {"name": "one"}) == digest
    assert (tmp_path / "two").read_bytes() == path.read_bytes()
    _, arrays, config, _ = read_weights(path)
    first = min(arrays)
    odd = np.zeros((9, *arrays[first].shape), np.float32)
    for changed, message in (
        ({n: a for n, a in arrays.items() if n != first}, f"- {first} "),
        (arrays | {"odd/weight": odd}, r"\+ odd/weight \(9, "),
        (arrays | {first: odd}, f"! {first} is .*, expected "),
        (arrays | {first: arrays[first].astype(np.int32)}, f"! {first} is int32, expected floating-point numbers"),
    ):
        write_weights(tmp_path / "bad", kind, changed, config, {})
        with pytest.raises(LsapError, match=f"bad: the weights do not fit {KINDS[kind].what}: {message}"):
            load(tmp_path / "bad", kind)
    write_weights(tmp_path / "bad", kind, arrays, {"widths": None}, {})
    with pytest.raises(LsapError, match="bad: its header and its tensors do not belong together"):
        load(tmp_path / "bad", kind)
    others = [name for name in KINDS if name not in (kind, "generator")]
    with pytest.raises(LsapError, match=f"one: holds '{kind}' weights, not {KINDS[others[0]].what} or "):
        load(path, *others)


def test_an_encoder_comes_alone_or_with_its_generator(tmp_path, G):
    E = latent(G)
    save(tmp_path / "alone", E, {})
    attach(G, E).save(tmp_path / "joined")
    x = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3), minval=-1)
    for name in ("alone", "joined"):
        found: Encoder = lsap_jax.load_encoder(tmp_path / name)
        assert (found.kind, found.codes, found.view) == ("encoder", "w+", square(8))
        ws = found(x)
        assert ws.shape == (2, G.num_ws, G.w_dim) and np.array_equal(ws, E(x))
    G.save(tmp_path / "without")
    with pytest.raises(
        LsapError, match="without: holds 'generator' weights, not a latent encoder or an encoder of pSp.*train-encoder"
    ):
        load_encoder(tmp_path / "without")
    with pytest.raises(LsapError, match="absent: no such file"):
        load_encoder(tmp_path / "absent")


def test_parts_are_attached_where_they_fit(tmp_path, G):
    save(tmp_path / "e", latent(G), {})
    save(tmp_path / "f", base(), {})
    both = attach_file(attach_file(G, tmp_path / "e"), tmp_path / "f")
    assert set(both.parts) == {"discriminator", "encoder", "basecode"}
    both.save(tmp_path / "g")
    again = load_generator(tmp_path / "g")
    assert again.sha256 == both.sha256 and same(again.parts, both.parts)
    for wrong, message in (
        (latent(G, num_ws=4), "train-encoder"),
        (latent(G, in_channels=1), "train-encoder"),
        (base(out_channels=5), "train-basecode"),
        (tiny_generator(img_resolution=8).discriminator, "discriminator"),
    ):
        with pytest.raises(LsapError, match=message):
            attach(G, wrong)
    with pytest.raises(LsapError, match=r"encoder/batch_stats/block0/.* is .*, its configuration asks for "):
        attach(G, latent(G, widths=(5, 6)).replace(config=latent(G).config))
    with pytest.raises(LsapError, match="holds 'generator' weights, not a base-code encoder or a latent encoder"):
        G.save(tmp_path / "bare")
        attach_file(G, tmp_path / "bare")


def test_parts_are_stripped_by_name(G):
    full = attach(attach(G, latent(G)), base()).with_part("statistics", jnp.zeros(3))
    full = full.replace(provenance_json='{"name": "x"}', source="here")
    bare = full.bare("statistics", "encoder")
    assert set(bare.parts) == {"statistics", "encoder"} and bare.source == "" and bare.provenance == {}
    assert set(full.without("encoder", "nothing").parts) == {"discriminator", "basecode", "statistics"}
    assert full.without("encoder").source == "here" and full.bare().discriminator is None
    assert "statistics" not in full.networks and not [n for n in full.arrays() if n.startswith("statistics")]


def test_a_generator_with_its_parts_goes_through_jit_grad_and_vmap(G):
    full = attach(G, latent(G))
    leaves, structure = jax.tree.flatten(full)
    assert jax.tree.unflatten(structure, leaves).parts.keys() == full.parts.keys()
    x = jnp.zeros((1, 8, 8, 3))
    ws = jax.jit(lambda G: G.encoder(x))(full)
    np.testing.assert_allclose(ws, full.encoder(x), rtol=1e-5, atol=1e-6)
    slope = jax.jit(jax.grad(lambda G: jnp.sum(G.encoder(x)), allow_int=True))(full)
    assert set(slope.parts) == set(full.parts) and float(jnp.abs(slope.encoder.params["params"]["last"]["bias"]).sum())
    two = jax.tree.map(lambda a: jnp.stack([a, a]), full)
    many = jax.jit(jax.vmap(lambda G: G.encoder(x)))(two)
    np.testing.assert_allclose(many[1], ws, rtol=1e-5, atol=1e-6)


@pytest.fixture
def sources(tmp_path, G):
    """A converted generator g, an official one o.pt, and the latent encoders e and d that suit them."""
    weights = dialects.random_generator()
    (tmp_path / "o.pt").write_bytes(files.torch_zip({"G_ema": dialects.state_dict(weights)}))
    G.save(tmp_path / "g")
    save(tmp_path / "e", latent(G), {})
    official = load_generator(tmp_path / "o.pt")
    save(tmp_path / "d", latent(official, widths=(3,), in_channels=official.img_channels), {})
    return tmp_path


def test_the_command_joins_a_latent_encoder(sources, capsys):
    def convert(*argv):
        status = main(["convert", *(str(sources / a) if a[0] != "-" else a for a in argv), "--nogrid"])
        assert status == 0, capsys.readouterr().err
        return load_generator(sources / argv[1])

    joined = convert("e", "joined", f"--generator={sources / 'g'}")
    assert joined.encoder.config.widths == (4, 6) and joined.provenance["encoder"] == {"source": "e"}
    assert convert("o.pt", "official", f"--add_basecode={sources / 'd'}").encoder.config.widths == (3,)
    assert main(["convert", str(sources / "d"), str(sources / "x"), f"--generator={sources / 'g'}"]) == 2
    assert "train an encoder for it with `lsap-jax train-encoder`" in capsys.readouterr().err


# A kind of one's own: an encoder that gives every image the mean colour of its pixels as ws.


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    num_ws: int
    w_dim: int


class Toy(struct.PyTreeNode, kw_only=True):
    kind: ClassVar[str] = "toy"
    codes: ClassVar[str] = "w"
    view: ClassVar[View] = square(4)
    config: ToyConfig = struct.field(pytree_node=False)
    params: Mapping[str, Any]

    def __call__(self, images: jax.Array) -> jax.Array:
        w = images.mean(axis=(1, 2, 3))[:, None] * self.params["weight"][None]
        return jnp.broadcast_to(w[:, None], (len(images), self.config.num_ws, self.config.w_dim))

    def check_fits(self, generator) -> None:
        if generator.w_dim != self.config.w_dim:
            raise LsapError("another width")


def test_a_new_kind_is_a_row(tmp_path, G, monkeypatch):
    row = Kind(
        name="toy",
        what="a toy encoder",
        remedy="make one",
        config=of(ToyConfig),
        shapes=lambda config: {"weight": jax.ShapeDtypeStruct((config.w_dim,), jnp.float32)},
        holder=holding(Toy),
        layout=LEAVES,
        companion=True,
        encodes=True,
    )
    toy = Toy(config=ToyConfig(num_ws=G.num_ws, w_dim=G.w_dim), params={"weight": jnp.arange(16.0)})
    with monkeypatch.context() as patch:
        patch.setitem(KINDS, "toy", row)
        save(tmp_path / "toy", toy, {})
        joined = attach_file(G, tmp_path / "toy")
        joined.save(tmp_path / "joined")
        assert load_generator(tmp_path / "joined").encoder.kind == "toy"
        images = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
        for name in ("toy", "joined"):
            np.testing.assert_array_equal(load_encoder(tmp_path / name)(images), toy(images))
        assert attach(joined, latent(G)).encoder.kind == "encoder"
    with pytest.raises(LsapError, match="has a part 'toy', which this version does not know"):
        load_generator(tmp_path / "joined")
    with pytest.raises(LsapError, match="holds 'toy' weights, not a latent encoder"):
        load_encoder(tmp_path / "toy")


@pytest.mark.parametrize("part", ["encoder", "basecode"])
def test_a_companion_that_does_not_fit_its_generator_is_refused_with_the_file(tmp_path, G, part):
    other = latent(G, num_ws=10) if part == "encoder" else base(out_channels=5)
    G.with_part(part, other).save(tmp_path / "g.safetensors")
    with pytest.raises(LsapError, match="this generator has"):
        load_generator(tmp_path / "g.safetensors")


def test_an_encoder_of_ws_is_no_base_code_encoder(tmp_path, G):
    save(tmp_path / "e.safetensors", latent(G), {})
    with pytest.raises(LsapError, match="holds 'encoder' weights, not a base-code encoder"):
        attached(G, {"basecode": tmp_path / "e.safetensors"})


def test_an_encoder_of_other_images_is_refused():
    G = tiny_generator(img_channels=1)
    with pytest.raises(LsapError, match="does not take images with 1 channels"):
        with_encoder(G, latent(G, in_channels=3))


# Headers that lie: every entry of every kind is compared with its declaration before a shape is traced.

NUMBERS = (-1, 2**40, 10**400, float("nan"), float("inf"), "64", None, True, [], {}, [[1]], 0.5)
LISTS = ([], [0], [512] * 10**6, "512", None, 3, [[[1]]], ["a"], [float("nan")], {"a": 1})


def declared(G):
    """kind -> a header that is right."""
    latent_, base_ = latent(G), base()
    return {
        "generator": KINDS["generator"].header(G),
        "discriminator": KINDS["discriminator"].header(G.discriminator),
        "basecode": KINDS["basecode"].header(base_),
        "encoder": KINDS["encoder"].header(latent_),
        "idinvert": KINDS["encoder"].header(latent_),
        "lpips": {"name": "alexnet", "version": "0.1"},
        "inception": {"name": "inception_v3_fid"},
        "inception_resnet_v1": {"name": "inception_resnet_v1", "trained_on": "vggface2"},
        "arcface": {"name": "ir_se50"},
        "dlib_resnet": {"name": "dlib_resnet"},
        "moco": {"name": "resnet50"},
        "psp": asdict(PspConfig(num_ws=6)),
        "latent_discriminator": {"w_dim": 512},
        "hfgi": asdict(HfgiConfig()),
        "styleclip_mapper": {"w_dim": 512, "levels": ["course", "fine"]},
        "invertibility": asdict(InvertibilityConfig()),
        "face_parser": asdict(FaceParserConfig()),
        "styleres": asdict(StyleResConfig()),
        "hyperstyle": asdict(HyperConfig(slots=((0, 512, 512), (3, 512, 256)))),
        "mtcnn": {"networks": ["pnet", "rnet", "onet"]},
        "attributes": {**KINDS["attributes"].header(classifier()), "binary": {}},
    }


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_headers_are_compared_with_what_their_fields_declare(G, kind):
    """Wrong types, sizes and values end in the build's own errors, at once, before anything is traced."""
    right = declared(G)[kind]
    KINDS[kind].config(right)
    start = time.process_time()
    refused = 0
    for key, value in right.items():
        for wrong in NUMBERS if isinstance(value, int | float | str) or value is None else NUMBERS + LISTS:
            try:
                config = KINDS[kind].config({**right, key: wrong})
            except (LsapError, ValueError, TypeError) as error:
                refused += 1
                assert len(str(error)) < 300
            else:  # what is left is allowed: the shapes of it are small
                assert len(repr(config)) < 2000
    assert refused > len(NUMBERS) / 2
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mapping_layers": 10**5}, "mapping_layers is 100000, it can be 1 to 64"),
        ({"channels": [512] * 10**3}, "channels is 1000 entries, it can be a list of 1 to 12 entries"),
        ({"resample_filter": [0.001] * 10**3}, "resample_filter is 1000 entries, it can be"),
        ({"resample_filter": [0, 0, 0, 0]}, "resample_filter is 4 entries, it can be at most 32 taps whose sum is 1"),
        (
            {"resample_filter": [[1]]},
            "resample_filter is 1 entries, it can be a list of at most 32 numbers, or a square",
        ),
        ({"img_resolution": 2**40}, "img_resolution is 1099511627776, it can be 1 to 8192"),
        ({"img_resolution": -64}, "img_resolution is -64, it can be 1 to 8192"),
        ({"img_resolution": "64"}, "img_resolution is '64', it can be an integer"),
        ({"img_resolution": 32}, "3 blocks make images of 16 px, not of 32"),
        ({"conv_clamp": float("nan")}, "conv_clamp is nan, it can be a finite number"),
        ({"conv_clamp": -1}, "conv_clamp is -1, it can be 1e-06 to 1000000.0"),
        ({"use_noise": 1}, "use_noise is 1, it can be true or false"),
        ({"architecture": "skip2"}, "architecture is 'skip2', it can be one of skip, resnet, orig"),
        ({"activation": "exec"}, "activation is 'exec', it can be one of linear,"),
        ({"w_dim": 0}, "w_dim is 0, it can be 1 to 16384"),
    ],
)
def test_a_generator_that_claims_too_much_is_refused_by_name(tmp_path, G, change, message):
    G.save(tmp_path / "g")
    kind, arrays, config, provenance = read_weights(tmp_path / "g")
    write_weights(tmp_path / "g", kind, arrays, {**config, "generator": {**config["generator"], **change}}, provenance)
    start = time.process_time()
    with pytest.raises(LsapError, match=re.escape(message)):
        load_generator(tmp_path / "g")
    assert time.process_time() - start < 2


@pytest.mark.parametrize("whole_file", [False, True])
def test_a_halved_network_is_stored_in_float16_and_read_as_float32(G, tmp_path, whole_file):
    """Programs that read float16 do not compile for processors without instructions for it."""
    path, encoder = tmp_path / "file.safetensors", latent(G)
    half = encoder.replace(params=halved(encoder.params))
    if whole_file:
        attach(G, half).save(path)
        found = load_generator(path).parts[half.kind]
    else:
        save(path, half, {})
        found = load(path, half.kind)
    stored = read_weights(path)[1]
    own = {n for n, a in stored.items() if a.dtype == np.float16}
    assert own == {name for name in stored if not whole_file or name.startswith(f"{half.kind}/")}
    assert {leaf.dtype for leaf in jax.tree.leaves(found.params)} == {np.dtype(np.float32)}
    jax.tree.map(np.testing.assert_array_equal, found.params, half.params)
    save(path, encoder, {})
    assert {a.dtype for a in read_weights(path)[1].values()} == {np.dtype(np.float32)}
