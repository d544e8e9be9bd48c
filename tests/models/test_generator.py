"""The generator a user holds: files, digests, strictness, the bundled one, and checkpoints against the originals."""

import json

import foreign_dialects as dialects
import foreign_files as files
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from hypothesis import given
from hypothesis import strategies as st
from parity import assert_parity, nhwc

import lsap_jax
from convert_weights import converted_file, read
from lsap_jax.errors import LsapError
from lsap_jax.models import network_file
from lsap_jax.models.generator_file import bundled, from_checkpoint, load_generator
from lsap_jax.networks import basecode
from lsap_jax.networks.families import initial_params
from lsap_jax.networks.parameters import count, merge
from lsap_jax.networks.stylegan2 import discriminator
from lsap_jax.storage import weights_file
from lsap_jax.testing import tiny_generator

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def G():
    return tiny_generator(basecode=True)


@pytest.fixture(scope="module")
def saved(G, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    assert G.save(path) == G.sha256
    return path


def test_a_saved_generator_comes_back_whole(G, saved):
    again = load_generator(saved)
    assert again.config == G.config and again.discriminator.config == G.discriminator.config
    assert again.basecode.config == G.basecode.config and again.sha256 == G.sha256
    for name, a in G.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], a)
    assert again.provenance["sha256"] == G.sha256
    assert not list(saved.parent.glob(".*")), "a temporary file was left behind"


def test_the_digest_tells_weights_apart(G):
    params = jax.tree.map(lambda a: a, G.params)
    params["mapping"]["w_avg"] = params["mapping"]["w_avg"].at[0].add(1e-6)
    assert G.replace(params=params).sha256 != G.sha256


@given(st.data())
def test_a_damaged_file_is_refused_or_the_same(saved, G, data):
    whole = saved.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        damaged = whole[:place]
    else:
        damaged = whole[:place] + bytes([whole[place] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[place + 1 :]
    path = saved.with_name("damaged.safetensors")
    path.write_bytes(damaged)
    try:
        found = weights_file.read_weights(path)
    except LsapError as error:
        assert "\n" not in str(error)
        return
    assert found[3]["sha256"] == G.sha256  # a flip in a blank of the header changes nothing
    assert weights_file.digest(found[1]) == G.sha256


def entry(whole):
    """Where the metadata entry of a converted file lies."""
    start = whole.index(b'{"lsap_jax":')
    return range(start, 8 + int.from_bytes(whole[:8], "little"))


def test_400_flipped_bits_of_the_metadata_are_refused_or_change_nothing(saved):
    """Settings and provenance are covered by a digest, not the tensors alone."""
    whole, rng = saved.read_bytes(), np.random.default_rng(0)
    expected, path, refused = weights_file.read_weights(saved), saved.with_name("flipped.safetensors"), 0
    for place in rng.choice(entry(whole), 400):
        copy = bytearray(whole)
        copy[place] ^= 1 << rng.integers(8)
        path.write_bytes(copy)
        try:
            found = weights_file.read_weights(path)
        except LsapError as error:
            refused += "damaged" in str(error) or "written in format" in str(error) or "without lsap_jax" in str(error)
            continue
        assert (found[0], found[2], found[3]) == (expected[0], expected[2], expected[3])
        refused += 1
    assert refused == 400


def test_one_bit_of_a_setting_of_the_bundled_generator_is_noticed(tmp_path):
    whole = bytearray(bundled()["toonhead64"].read_bytes())
    place = whole.index(b'\\"mapping_lr_multiplier\\": 0.01') + len(b'\\"mapping_lr_multiplier\\": 0.0')
    assert whole[place] == ord("1")
    whole[place] ^= 2
    (tmp_path / "g").write_bytes(whole)
    with pytest.raises(LsapError, match="g: its header has changed since it was written"):
        load_generator(tmp_path / "g")


def as_format_1(whole):
    """A converted file as the first release wrote it: without a digest of the header."""
    size = int.from_bytes(whole[:8], "little")
    head = json.loads(whole[8 : 8 + size])
    own = json.loads(head["__metadata__"]["lsap_jax"])
    del own["header_sha256"]
    own["format_version"] = 1
    head["__metadata__"]["lsap_jax"] = json.dumps(own, sort_keys=True)
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + whole[8 + size :]


def test_files_of_the_first_release_are_read_and_say_what_their_digest_covers(saved, G, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(as_format_1(saved.read_bytes()))
    again = load_generator(old)
    assert again.sha256 == G.sha256  # what results of earlier versions record
    assert again.provenance["sha256_covers"] == "the tensors"
    again.save(new)
    assert new.read_bytes() == saved.read_bytes()
    assert load_generator(new).provenance["sha256_covers"] == "the tensors and the header"
    both = json.loads(old.read_bytes()[8 : 8 + int.from_bytes(old.read_bytes()[:8], "little")])["__metadata__"][
        "lsap_jax"
    ]
    assert "header_sha256" not in both


def test_a_file_without_its_second_digest_is_refused(saved, tmp_path):
    """Nobody gets around the digest by leaving it out or empty."""
    whole = saved.read_bytes()
    for old, new in ((b"header_sha256", b"header_sha257"), (b'format_version\\": 2', b'format_version\\": 1')):
        assert whole.count(old) == 1
        (tmp_path / "w").write_bytes(whole.replace(old, new))
        with pytest.raises(LsapError, match="damaged"):
            load_generator(tmp_path / "w")


def test_every_flipped_byte_of_a_tensor_is_noticed(saved):
    whole = bytearray(saved.read_bytes())
    whole[-1] ^= 1
    path = saved.with_name("flipped.safetensors")
    path.write_bytes(whole)
    with pytest.raises(LsapError, match="SHA-256 .* the file is damaged"):
        load_generator(path)


def test_the_tiny_generator_starts_as_the_networks_do():
    """But for the noise and the w_avg, which would not matter at 0."""
    tiny = tiny_generator(img_resolution=8, basecode=True)
    key = jax.random.key(0, impl="unsafe_rbg")  # the default's draws take four times as long to compile
    own = {
        "generator": initial_params(tiny.config, key),
        "discriminator": discriminator.initial_params(tiny.discriminator.config, key),
        "basecode": basecode.initial_variables(tiny.basecode.config, key),
    }
    found = tiny.arrays()
    assert found.keys() == {"/".join(path) for path in flatten_dict(own)}
    for path, leaf in flatten_dict(own).items():
        a = found["/".join(path)]
        assert a.shape == leaf.shape and a.dtype == leaf.dtype, path
        if path[-1] in ("noise_strength", "w_avg"):
            assert np.all(a == np.float32(0.1)), path
        elif np.std(leaf) == 0:
            np.testing.assert_array_equal(a, leaf, err_msg=str(path))
        else:
            assert 0.5 < a.std() / np.std(leaf) < 2, path  # few numbers in some; the encoder's own vary with the width


def test_files_that_hold_something_else(saved, tmp_path):
    weights_file.write_weights(tmp_path / "lpips", "lpips", {"a": np.zeros(3)}, {}, {})
    with pytest.raises(LsapError, match="holds 'lpips' weights, not a StyleGAN generator"):
        load_generator(tmp_path / "lpips")
    with pytest.raises(LsapError, match="neither a file nor a bundled generator"):
        load_generator("toonhead65")
    with pytest.raises(LsapError, match="`lsap-jax convert` fetches"):
        load_generator("https://example.com/ffhq.pkl")
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(LsapError, match="without lsap_jax metadata"):
        load_generator(tmp_path / "foreign.safetensors")


def test_a_file_whose_tensors_do_not_fit_its_configuration(saved, tmp_path):
    kind, arrays, config, provenance = weights_file.read_weights(saved)
    arrays["generator/mapping/fc0/weight"] = np.zeros((3, 3), np.float32)
    weights_file.write_weights(tmp_path / "odd", kind, arrays, config, provenance)
    with pytest.raises(LsapError, match="! generator/mapping/fc0/weight is .3, 3., expected .16, 16."):
        load_generator(tmp_path / "odd")
    weights_file.write_weights(tmp_path / "bare", kind, arrays, {"generator": {"img_resolution": 16}}, provenance)
    with pytest.raises(LsapError, match="do not belong together"):
        load_generator(tmp_path / "bare")


def test_pictures_with_alpha_are_refused_where_the_generator_enters(tmp_path):
    tiny_generator(img_channels=4, discriminator=False).save(tmp_path / "rgba.safetensors")
    with pytest.raises(LsapError, match="rgba.safetensors: the generator makes pictures with 4 channels; 3 .RGB."):
        load_generator(tmp_path / "rgba.safetensors")


def test_a_place_that_cannot_be_written_is_named_before_and_after(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    weights_file.check_writable(tmp_path / "file")
    weights_file.check_writable(tmp_path / "new" / "file")
    assert (tmp_path / "file").read_bytes() == b"old" and not list((tmp_path / "new").iterdir())
    for path, why in (
        (tmp_path, "is a folder; name the file"),
        (tmp_path / "file" / "below", "below: cannot be written"),
    ):
        with pytest.raises(LsapError, match=why):
            weights_file.check_writable(path)
        with pytest.raises(LsapError, match=why):
            weights_file.write_weights(path, "generator", {"a": np.zeros(1)}, {}, {})


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(converted_file, "FORMAT_VERSION", 99)
    weights_file.write_weights(tmp_path / "new", "generator", {"a": np.zeros(1)}, {}, {})
    monkeypatch.undo()
    with pytest.raises(LsapError, match="written in format 99, this version reads up to 2"):
        load_generator(tmp_path / "new")


def test_params_are_filled_strictly():
    shapes = {"a": {"weight": np.zeros((2, 3))}, "b": {"bias": np.zeros(4)}}
    filled = merge(shapes, {"a.weight": np.arange(6.0).reshape(3, 2), "b.bias": np.ones(4)}, "a test")
    np.testing.assert_array_equal(filled["a"]["weight"], np.arange(6.0).reshape(3, 2).T)
    with pytest.raises(LsapError) as error:
        merge(shapes, {"a.weight": np.zeros((2, 3)), "c.weight": np.zeros(1)}, "a test")
    for part in ("- b.bias (4,)", "+ c.weight (1,)", "! a.weight is (3, 2), expected (2, 3)"):
        assert part in str(error.value)


def test_the_bundled_generator_is_there_and_small():
    path = bundled()["toonhead64"]
    G = load_generator("toonhead64")
    halved = {kind: 2 * count(G.parts[kind].params) for kind in ("hfgi", "hyperstyle", "invertibility", "styleres")}
    assert halved["styleres"] < 4e6 and sum(halved.values()) - halved["styleres"] < 6e6
    assert path.stat().st_size < 16e6 + sum(halved.values())
    assert (G.z_dim, G.w_dim, G.img_resolution, G.num_ws, G.img_channels) == (128, 128, 64, 10, 3)
    assert G.discriminator is not None and G.provenance["licence"].startswith("CC BY 4.0")
    images = G.synthesis(G.mapping(jax.random.normal(jax.random.key(0), (4, 128))))
    assert images.shape == (4, 64, 64, 3) and jnp.isfinite(images).all()
    assert jnp.abs(images[0] - images[1]).max() > 0.3  # not collapsed


def test_the_bundled_file_has_the_shapes_that_it_declares():
    """`load_generator` takes them as they are: here they are compared, as those of every other file are."""
    contents = network_file.read(bundled()["toonhead64"])
    G = load_generator("toonhead64")
    assert set(contents.parts) == {"generator", *G.parts}
    for kind in contents.parts:
        strict, quick = contents.build(kind), G if kind == "generator" else G.parts[kind]
        assert jax.tree.structure(strict.params) == jax.tree.structure(quick.params)
        jax.tree.map(np.testing.assert_array_equal, strict.params, quick.params)


def test_the_start_of_toonhead64_renders_as_it_was_recorded(shared_file):
    path = shared_file("data/toonhead64_start.npz")
    G = from_checkpoint(read(path))
    with np.load(path) as file:
        check = {k.removeprefix("check/"): file[k] for k in file.files if k.startswith("check/")}
    ws = G.mapping(jnp.asarray(check["z"]))
    assert_parity("toonhead64_start", "ws", ws, check["ws"])
    assert_parity("toonhead64_start", "img", G.synthesis(ws), nhwc(check["img"]))
    assert_parity("toonhead64_start", "logits", G.discriminator(G.synthesis(ws)), check["logits"])


def test_rosinality_images_latents_and_gradients(golden, shared_file):
    file = golden("rosinality_g32")
    G = from_checkpoint(read(shared_file("golden/rosinality_g32_converted_style.pt")))
    w, wplus = jnp.asarray(file["w"]), jnp.asarray(file["wplus"])
    assert_parity("rosinality_g32", "style_z", G.map_w(jnp.asarray(file["z"])), file["style_z"])
    ws = jnp.broadcast_to(w[:, None], (2, G.num_ws, G.w_dim))
    assert_parity("rosinality_g32", "img_w_bufnoise", G.synthesis(ws), nhwc(file["img_w_bufnoise"]))
    img, features = G.features(wplus)
    assert_parity("rosinality_g32", "img_wplus_bufnoise", img, nhwc(file["img_wplus_bufnoise"]))
    assert_parity(
        "rosinality_g32", "img_wplus_zeronoise", G.synthesis(wplus, "none"), nhwc(file["img_wplus_zeronoise"])
    )
    layers = [layer.name for layer in G.config.layers if layer.kind == "conv"]
    noise = {name: jnp.asarray(file[f"ext_noise_{i}"][:, 0]) for i, name in enumerate(layers)}
    found = G.synthesis(wplus, noise=noise)
    assert_parity("rosinality_g32", "img_wplus_extnoise", found, nhwc(file["img_wplus_extnoise"]))
    truncated = G.mapping(jnp.asarray(file["z"]), truncation_psi=0.7)
    assert_parity("rosinality_g32", "latents_z_trunc0p7", truncated, file["latents_z_trunc0p7"])
    assert_parity("rosinality_g32", "img_z_trunc0p7", G.synthesis(truncated), nhwc(file["img_z_trunc0p7"]))
    names = {"conv1": "b4.conv1", "to_rgb1": "b4.img"}
    names |= {f"convs.{2 * n + i}": f"b{8 << n}.conv{i}" for n in range(3) for i in range(2)}
    names |= {f"to_rgbs.{n}": f"b{8 << n}.img" for n in range(3)}
    for theirs, ours in names.items():
        assert_parity("rosinality_g32", theirs, features[ours], nhwc(file[f"inter/{theirs}"]))
    R = jnp.asarray(nhwc(file["R"]))
    loss, grad = jax.value_and_grad(lambda ws: jnp.sum(G.synthesis(ws) * R))(wplus)
    assert_parity("rosinality_g32", "loss", loss, file["loss"])
    assert_parity("rosinality_g32", "dL_dwplus", grad, file["dL_dwplus"])
    legacy = from_checkpoint(read(shared_file("golden/rosinality_g32_legacyfmt.pt")))
    assert_parity("rosinality_g32", "legacy", legacy.synthesis(wplus), nhwc(file["img_wplus_bufnoise"]))


def test_genforce_file_renders_as_the_original(golden, shared_file):
    G = from_checkpoint(read(shared_file("golden/genforce_sg2_small.pth")))
    assert G.config.architecture == "skip"
    images = G.synthesis(G.mapping(jnp.asarray(np.random.RandomState(0).randn(2, G.z_dim), jnp.float32)))
    assert jnp.isfinite(images).all()


def test_provenance_and_names_are_public(G):
    assert json.loads(G.provenance_json) == G.provenance == {}
    assert lsap_jax.Generator is type(G)
    with pytest.raises(AttributeError, match="no attribute 'inverter'"):
        _ = lsap_jax.inverter
    assert "invert" in dir(lsap_jax)


def test_rosinality_discriminator(golden, tmp_path):
    g, d = golden("rosinality_g32"), golden("rosinality_d32")
    parts = {name: dialects.state_dict(originals(file)) for name, file in (("g_ema", g), ("d", d))}
    value = {**parts, "latent_avg": files.T(np.ascontiguousarray(g["latent_avg"]))}
    (tmp_path / "r.pt").write_bytes(files.torch_zip(value))
    D = from_checkpoint(read(tmp_path / "r.pt")).discriminator
    img = jnp.asarray(nhwc(d["img"]))
    assert_parity("rosinality_d32", "logits", D(img), d["logits"])
    assert_parity("rosinality_d32", "logits_first2", D(img[:2]), d["logits_first2"])


def test_a_tensorflow_pickle_renders_as_the_original(golden, tmp_path):
    file, critic = golden("nv_g32"), golden("nv_d32")
    options = {"resolution": 32, "num_channels": 3, "latent_size": 64, "dlatent_size": 64, "mapping_fmaps": 64}
    made = dialects.tensorflow_generator(originals(file), fmap_base=512, fmap_max=64, **options)
    (tmp_path / "tf.pkl").write_bytes(files.plain((made, dialects.tensorflow_discriminator(originals(critic)), made)))
    G = from_checkpoint(read(tmp_path / "tf.pkl"))
    logits = G.discriminator(jnp.asarray(nhwc(critic["img"])))
    assert_parity("nv_d32", "through TensorFlow's pickle", logits, critic["logits"])
    img = G.synthesis(G.mapping(jnp.asarray(file["z"])))
    assert_parity("nv_g32", "through TensorFlow's pickle", img, nhwc(file["img_psi1_const"]))


def originals(file: dict) -> dict:
    """The state dict of a golden under its original names."""
    return {k.removeprefix("sd/"): v for k, v in file.items() if k.startswith("sd/")}
