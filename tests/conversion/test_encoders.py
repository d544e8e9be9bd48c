"""Encoders of pSp, e4e, LSAP, ReStyle and HyperStyle from their own files: all parts, strictly, to the same codes."""

from dataclasses import replace

import foreign_dialects as dialects
import foreign_encoders as foreign
import foreign_files as files
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from foreign_encoders import CRITIC, GENERATOR, TYPES, encoder, ganinverter_file, psp_file, styleres_file

import convert_weights
from convert_weights import ConversionError
from convert_weights.__main__ import main as convert_alone
from lsap_jax.cli import main
from lsap_jax.errors import LsapError
from lsap_jax.models.generator_file import load_generator
from lsap_jax.models.network_file import load, load_encoder
from lsap_jax.testing import tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")
ONES = np.ones(3, np.float32)
E4E, PSP, W = "Encoder4Editing", "GradualStyleEncoder", "WEncoder"


@pytest.fixture
def write(tmp_path):
    def run(root, name="file.pt"):
        (tmp_path / name).write_bytes(files.torch_zip(root))
        return tmp_path / name

    return run


def assert_same(found, E):
    """The encoder has the configuration and, bit for bit, the weights of E."""
    assert found.config == replace(E.config, input_resolution=256, filter="bilinear")
    own, other = flatten_dict(dict(E.params)), flatten_dict(dict(found.params))
    assert own.keys() == other.keys()
    for path, leaf in own.items():
        np.testing.assert_array_equal(other[path], leaf, err_msg="/".join(path))


@pytest.mark.parametrize("encoder_type", TYPES)
def test_every_type_comes_with_its_generator(write, encoder_type):
    E = encoder(encoder_type)
    path = write(psp_file(E, encoder_type))
    G = load_generator(path)
    assert_same(G.encoder, E)
    assert_same(load_encoder(path), E)
    assert (G.num_ws, G.w_dim) == (6, 16) and G.provenance["notes"] == []
    np.testing.assert_array_equal(G.params["mapping"]["w_avg"], GENERATOR["mapping.w_avg"])


@pytest.mark.parametrize(
    ("root", "project"),
    [
        (lambda E: psp_file(E, prefix="module."), "e4e or LSAP with its generator"),
        (lambda E: {"model": psp_file(E)}, "e4e or LSAP"),
        (lambda E: ganinverter_file(E), "e4e or LSAP"),
        (lambda E: ganinverter_file(E, prefix="module."), "e4e or LSAP"),
        (lambda E: styleres_file(E), "e4e or LSAP"),
    ],
    ids=["DDP", "wrapped", "GANInverter", "GANInverter DDP", "StyleRes"],
)
def test_every_container(write, root, project):
    E = encoder()
    checkpoint = convert_weights.read(write(root(E)))
    assert project in checkpoint.format and checkpoint.parts.keys() == {"generator", "psp"}
    assert not any("w_avg" in note or "latent_avg" in note for note in checkpoint.notes)
    assert_same(load_encoder(write(root(E))), E)
    counted = [name for name in checkpoint.ignored if "num_batches_tracked" in name]
    assert len(counted) == 12 and all("counter" in checkpoint.ignored[name] for name in counted)


def test_data_parallel_models_are_read(write):
    E = encoder()
    root = psp_file(E)
    root["state_dict"] = files.ordered({f"module.{n}": a for n, a in root["state_dict"].items.items()})
    assert_same(load_encoder(write(root)), E)


def test_styleres_clamps_and_its_residuals_are_set_aside(write):
    path = write(styleres_file(encoder()))
    checkpoint = convert_weights.read(path)
    aside = [name for name, why in checkpoint.ignored.items() if "residuals" in why]
    assert len(aside) == 4 and "generator_smooth/synthesis.b64.modify_feature_gates.down1.weight" in aside
    assert load_generator(path).config.conv_clamp == 256
    assert any("clamped at 256" in note for note in checkpoint.notes)


def test_other_networks_of_the_file_are_listed(write):
    root = psp_file(encoder(), discriminator_optimizer_state_dict={"state": {0: {"exp_avg": files.T(ONES)}}})
    more = {"pool.conv_layer1.0.weight": files.T(ONES), "align.dconv_layer1.0.weight": files.T(ONES)}
    root["state_dict"].items |= more | {"hypernet.conv1.weight": files.T(np.ones((2, 6, 7, 7), np.float32))}
    ignored = convert_weights.read(write(root)).ignored
    names = {name for name in ignored if "num_batches" not in name}
    assert names == {
        "state_dict/pool.*", "state_dict/align.*", "state_dict/hypernet.*",
        "discriminator_optimizer_state_dict/*", "opts/*",
    }  # fmt: skip


def test_the_mean_latent_in_its_forms(write):
    E = encoder()
    rows = np.arange(96, dtype=np.float32).reshape(6, 16)
    for mean, expected in ((rows[0].copy(), rows[:1]), (rows[:1].copy(), rows[:1]), (rows, rows)):
        found = load_encoder(write(psp_file(E, latent_avg=files.T(mean))))
        np.testing.assert_array_equal(found.params["w_avg"], np.broadcast_to(expected, (6, 16)))
    notes = convert_weights.read(write(psp_file(E, latent_avg=files.T(rows)))).notes
    assert any("latent_avg differs from layer to layer and is not used as the generator's" in note for note in notes)
    G = load_generator(write(psp_file(E, latent_avg=None)))
    np.testing.assert_array_equal(G.encoder.params["w_avg"], np.tile(G.w_avg, (6, 1)))
    assert any("adds the generator's mean w" in note for note in G.provenance["notes"])
    opts = {"encoder_type": E4E, "start_from_latent_avg": False}
    G = load_generator(write(psp_file(E, latent_avg=None, opts=opts)))
    assert not G.encoder.params["w_avg"].any() and any("no mean latent" in note for note in G.provenance["notes"])
    with pytest.raises(LsapError, match=r"6 rows of 16 numbers, but latent_avg has shape \[4, 16\]; it can be \[16\]"):
        load_encoder(write(psp_file(E, latent_avg=files.T(rows[:4].copy()))))


def test_rows_of_an_encoder_of_w(write):
    E = encoder(W)
    alone = {"encoder": dialects.state_dict(foreign.tensors(E)), "latent_avg": files.T(E.params["w_avg"])}
    assert load_encoder(write(alone)).config.num_ws == 6
    one = {**alone, "latent_avg": files.T(E.params["w_avg"][:1].copy())}
    assert load_encoder(write({**one, "opts": {"output_size": 256}})).config.num_ws == 14
    with pytest.raises(ConversionError, match="neither latent_avg nor opts.output_size tells the rows"):
        load_encoder(write(one))


def test_passes_of_restyle(write):
    kind = "BackboneEncoder"
    for opts, passes in (({}, 5), ({"n_iters_per_batch": 2}, 2)):
        root = psp_file(encoder(kind), opts={"encoder_type": kind, **opts})
        assert load_encoder(write(root)).config.passes == passes
    assert load_encoder(write(psp_file(encoder(), n_iters_per_batch=9))).config.passes == 1
    with pytest.raises(LsapError, match="n_iters_per_batch is 1000, it can be 1 to 64"):
        load_encoder(write(psp_file(encoder(kind), opts={"encoder_type": kind, "n_iters_per_batch": 1000})))


@pytest.mark.parametrize("encoder_type", [E4E, "BackboneEncoder"])
def test_cars_are_seen_without_their_bars(write, encoder_type):
    root = psp_file(encoder(encoder_type), opts={"encoder_type": encoder_type, "dataset_type": "cars_encode"})
    G = load_generator(write(root))
    assert G.encoder.view == (192, 256, "bilinear")
    assert load_encoder(write(psp_file(encoder()))).view == (256, 256, "bilinear")


def test_options_may_be_anything(write):
    endless = []
    for _ in range(60):
        endless = [endless, endless]
    for name in ("dataset_type", "start_from_latent_avg", "stylegan_size"):
        E = load_encoder(write(psp_file(encoder(), opts={"encoder_type": E4E, name: endless})))
        assert E.config.progressive
    for name in ("encoder_type", "n_iters_per_batch"):
        root = psp_file(encoder("BackboneEncoder"), opts={"encoder_type": "BackboneEncoder", name: endless})
        with pytest.raises(LsapError, match=f"opts.{name} is <class 'list'>"):
            load_encoder(write(root))


def test_options_of_argparse_are_read(write):
    opts = files.Obj(files.Ref("argparse", "Namespace"), new=True, state={"encoder_type": PSP})
    assert load_encoder(write(psp_file(encoder(PSP), opts=opts))).config.progressive is False


def test_an_encoder_without_a_generator(write):
    E = encoder()
    weights, mean = dialects.state_dict(foreign.tensors(E)), files.T(E.params["w_avg"])
    for name in ("e4e", "psp"):
        checkpoint = convert_weights.read(write({name: weights, "latent_avg": mean, "loss": files.T(ONES)}))
        assert checkpoint.kind == "psp" and checkpoint.parts["psp"].config["progressive"] == (name == "e4e")
        assert checkpoint.ignored["loss"] == "not part of the encoder" and "latent_avg" not in checkpoint.ignored
    bare = foreign.tensors(E) | {"latent_avg": E.params["w_avg"]}
    with pytest.raises(
        ConversionError, match="no opts.encoder_type, and pSp's and e4e's encoders have the same tensor"
    ):
        convert_weights.read(write(dialects.state_dict(bare)))
    assert_same(load_encoder(write({**dialects.tensors(bare), "opts": {"encoder_type": E4E}})), E)
    with pytest.raises(ConversionError, match="has no latent_avg, the mean latent"):
        convert_weights.read(write({"e4e": weights}))


def changed(E, change):
    root = psp_file(E)
    change(root["state_dict"].items)
    return root


def small_generator():
    """A generator of 8 px, which takes 4 rows."""
    return dialects.random_generator((8, 8), 16, 16, 2)


REFUSALS = {
    "missing body.2.res_layer.4.running_var": lambda E: changed(
        E, lambda s: s.pop("encoder.body.2.res_layer.4.running_var")
    ),
    "body.2.res_layer.1.weight is missing": lambda E: changed(E, lambda s: s.pop("encoder.body.2.res_layer.1.weight")),
    "missing styles.5.convs.4.weight": lambda E: changed(E, lambda s: s.pop("encoder.styles.5.convs.4.weight")),
    "its heads has layers up to 5, but none of number 3": lambda E: changed(
        E, lambda s: [s.pop(name) for name in list(s) if ".styles.3." in name]
    ),
    "unknown tensors output_layer_2.3.weight": lambda E: changed(
        E, lambda s: s.update({"encoder.output_layer_2.3.weight": files.T(ONES)})
    ),
    "unexpected styles.0.convs.8.weight": lambda E: changed(
        E, lambda s: s.update({"encoder.styles.0.convs.8.weight": files.T(np.ones((16, 16, 3, 3), np.float32))})
    ),
    "latlayer1.bias is [3], not [16]": lambda E: changed(
        E, lambda s: s.update({"encoder.latlayer1.bias": files.T(ONES)})
    ),
    "makes 6 rows of 16 numbers from pictures with 3 channels, the generator beside it (8 px) takes 4 rows": (
        lambda E: psp_file(E, weights=small_generator())
    ),
    "opts.encoder_type is MyEncoder, which is none of GradualStyleEncoder": lambda E: psp_file(E, "MyEncoder"),
    "opts.encoder_type is WEncoder, of heads 'single' on irse, but its tensors have heads 'pyramid' on irse": (
        lambda E: psp_file(E, W)
    ),
    "has no opts.encoder_type": lambda E: psp_file(E, opts=None),
    "several networks of kind encoder, under state_dict/encoder, other": lambda E: psp_file(
        E, other=dialects.state_dict(foreign.tensors(E))
    ),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_what_does_not_fit_is_refused_by_name(write, tmp_path, capsys, reason):
    path = write(REFUSALS[reason](encoder()))
    assert main(["convert", str(path), str(tmp_path / "out"), "--nogrid"]) == 2
    message = capsys.readouterr().err
    assert reason in message and "leave it out with --only generator" in message and str(path) in message
    assert convert_alone([str(path), str(tmp_path / "out")]) == 2
    assert reason in capsys.readouterr().err and not (tmp_path / "out").exists()
    with pytest.raises((LsapError, ConversionError)) as error:
        load_encoder(path)
    assert reason in str(error.value)
    assert convert_alone([str(path), str(tmp_path / "out"), "--only", "generator"]) == 0
    assert load_generator(tmp_path / "out").encoder is None and load_generator(path).encoder is None


def test_damaged_values_are_refused(write):
    root = changed(encoder(), lambda s: s.update({"encoder.latlayer1.bias": files.T(np.full(16, np.nan, np.float32))}))
    with pytest.raises(ConversionError, match="latlayer1.bias holds values that are not finite"):
        load_generator(write(root))


def test_no_code_of_the_file_is_run(write):
    opts = {"encoder_type": files.Obj(files.Ref("os", "system"), ("false",))}
    with pytest.raises(ConversionError, match=r"os\.system"):
        load_encoder(write(psp_file(encoder(), opts=opts)))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_latent_discriminator_comes_along(write, tmp_path, prefix):
    state = dialects.state_dict({prefix + name: a for name, a in CRITIC.items()})
    path = write(psp_file(encoder(), discriminator_state_dict=state, best_val_loss=0.1))
    assert main(["convert", str(path), str(tmp_path / "g"), "--nogrid"]) == 0
    critic = load_generator(tmp_path / "g").parts["latent_discriminator"]
    assert critic.config.w_dim == 16
    w = np.random.default_rng(0).standard_normal((3, 16), np.float32)
    expected = w
    for k in (0, 2, 4, 6):
        expected = expected @ CRITIC[f"mlp.{k}.weight"].T + CRITIC[f"mlp.{k}.bias"]
        expected = np.where(expected > 0, expected, 0.2 * expected) if k < 6 else expected
    np.testing.assert_allclose(critic(w), expected[:, 0], rtol=1e-4)
    state.items.pop(f"{prefix}mlp.4.bias")
    reason = "latent discriminator under .*: the tensors do not fit its architecture; missing mlp.4.bias"
    with pytest.raises(LsapError, match=reason):
        load(write(psp_file(encoder(), discriminator_state_dict=state)), "latent_discriminator")


def test_one_part_alone(write, tmp_path, capsys):
    E = encoder()
    path = write(psp_file(E, discriminator_state_dict=dialects.state_dict(CRITIC)))
    kinds = {"generator": "generator", "encoder": "psp", "latent_discriminator": "latent_discriminator"}
    for word, kind in kinds.items():
        one, other = tmp_path / "one" / word, tmp_path / "other" / word
        assert main(["convert", str(path), str(one), "--only", word, "--nogrid"]) == 0
        assert convert_alone([str(path), str(other), "--only", word]) == 0
        assert one.read_bytes() == other.read_bytes()
        load(one, kind)
    assert_same(load_encoder(tmp_path / "one" / "encoder"), E)
    assert convert_alone([str(path), str(tmp_path / "half"), "--only", "encoder", "--half"]) == 0
    assert (tmp_path / "half").stat().st_size < 0.6 * (tmp_path / "one" / "encoder").stat().st_size
    assert load_encoder(tmp_path / "half").config == replace(E.config, input_resolution=256, filter="bilinear")
    G = load_generator(tmp_path / "one" / "generator")
    assert G.encoder is None and "left out: encoder, latent_discriminator" in G.provenance["notes"][-1]
    joined = tmp_path / "joined"
    command = ["convert", str(path), str(joined), f"--generator={tmp_path / 'one' / 'generator'}", "--nogrid"]
    assert main(command) == 2 and "add --only encoder" in capsys.readouterr().err
    assert main([*command, "--only", "encoder"]) == 0
    assert_same(load_generator(joined).encoder, E)
    assert main(["convert", str(path), str(joined), "--only", "hypernet"]) == 2
    assert "has no hypernet; it has generator, encoder, latent_discriminator" in capsys.readouterr().err


def test_an_encoder_for_another_generator_is_refused_by_both_numbers(write, tmp_path, capsys):
    dialect = dialects.state_dict(dialects.rosinality(small_generator()))
    other = write({"g_ema": dialect, "latent_avg": files.T(GENERATOR["mapping.w_avg"])}, "other.pt")
    path = write(psp_file(encoder()))
    command = ["convert", str(path), str(tmp_path / "x"), f"--generator={other}", "--only", "encoder", "--nogrid"]
    assert main(command) == 2
    assert "(6, 16) from images with 3 channels, this generator has (4, 16)" in capsys.readouterr().err


@pytest.mark.parametrize("encoder_type", [E4E, pytest.param("BackboneEncoder", marks=pytest.mark.slow)])
def test_codes_are_those_of_the_original_weights(write, tmp_path, encoder_type):
    E = encoder(encoder_type)
    path, model = write(psp_file(E, encoder_type)), tmp_path / "model"
    assert main(["convert", str(path), str(model), "--nogrid"]) == 0
    G = load_generator(model)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    small = G.encoder.replace(config=replace(G.encoder.config, input_resolution=32))
    own = E.replace(config=replace(E.config, input_resolution=32))
    np.testing.assert_array_equal(small(images, G), own(images, G))


def test_the_command_encodes_with_the_encoder_of_the_file(write, tmp_path):
    from lsap_jax.storage.pictures import save_png

    path, model = write(psp_file(encoder(W), W)), tmp_path / "model"
    assert main(["convert", str(path), str(model), "--nogrid"]) == 0
    save_png(tmp_path / "images" / "a.png", tiny_images(1)[0])
    command = ["encode", str(tmp_path / "images"), "--generator", str(path), "--out"]
    assert main([*command, str(tmp_path / "one")]) == 0
    assert main([*command[:3], str(model), "--out", str(tmp_path / "two")]) == 0
    one, two = (np.load(tmp_path / run / "codes" / "a.npz") for run in ("one", "two"))
    assert one.files == two.files
    np.testing.assert_array_equal(one[one.files[0]], two[two.files[0]])
