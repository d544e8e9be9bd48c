"""Variants of StyleGAN2 and other networks: what is refused by name, and keywords of forks that change nothing."""

import foreign_dialects as dialects
import foreign_files as files
import numpy as np
import pytest

import convert_weights
from convert_weights import ConversionError

G = dialects.random_generator((6, 5), 4, 4)
ONES = np.ones((2, 2), np.float32)


@pytest.fixture
def read(tmp_path):
    def run(data):
        (tmp_path / "weights").write_bytes(data)
        return convert_weights.read(tmp_path / "weights")

    return run


def in_names(dialect, weights):
    """The file of a generator in the names of a dialect."""
    if dialect == "nvlabs":
        return files.torch_zip({"G_ema": dialects.state_dict(weights)})
    if dialect == "pickle":
        return files.plain({"G_ema": files.nvlabs(weights, "Generator", files.generator_facts())})
    if dialect == "tensorflow":
        network = dialects.tensorflow_generator(weights)
        return files.plain((network, dialects.tensorflow_discriminator(dialects.random_discriminator()), network))
    made = {"rosinality": dialects.rosinality, "genforce": dialects.genforce}[dialect](weights)
    return files.torch_zip({"g_ema": dialects.state_dict(made)})


EACH = ["nvlabs", "pickle", "tensorflow", "rosinality", "genforce"]


@pytest.mark.parametrize("dialect", EACH)
@pytest.mark.parametrize(
    ("channels", "words"), [(4, r"4 channels \(RGB with alpha\)"), (2, "grey with alpha"), (6, "6")]
)
def test_pictures_of_other_colours_are_refused(read, dialect, channels, words):
    weights = dialects.random_generator((6, 5), 4, 4, image_channels=channels)
    with pytest.raises(ConversionError, match=words):
        read(in_names(dialect, weights))


@pytest.mark.parametrize("dialect", EACH)
def test_pictures_that_are_not_square_are_refused_with_their_shape(read, dialect):
    weights = G | {"synthesis.b4.const": np.ones((6, 4, 2), np.float32)}
    with pytest.raises(ConversionError, match="pictures of 4 x 8 px"):
        read(in_names(dialect, weights))


def test_a_resolution_of_two_numbers_is_a_picture_that_is_not_square(read):
    facts = files.generator_facts(img_resolution=[8, 4])
    with pytest.raises(ConversionError, match="8 x 4 px; only square"):
        read(files.plain({"G_ema": files.nvlabs(G, "Generator", facts)}))


def test_widths_that_rosinality_cannot_have(read):
    for z, words in ((8, "exported from a conditional network"), (5, "z and w have one width")):
        weights = dialects.random_generator((6, 5), w=4, z=z)
        with pytest.raises(ConversionError, match=words):
            read(in_names("rosinality", weights))
        checkpoint = read(in_names("genforce", weights))  # there z may have any width
        assert checkpoint.parts["generator"].config["z_dim"] == z


OTHERS = {
    "StyleGAN3": ["synthesis.L0_36_512.weight"],
    "StyleGAN1": ["g_synthesis.blocks.4x4.epi1.top_epi.noise.weight"],
    "bias before the blur, one noise map for two layers, eps 1e-5": ["generator.progression.0.conv1.input"],
    "PGGAN": ["scaleLayers.0.0.module.weight", "toRGBLayers.0.module.weight"],
    "BigGAN": ["blocks.0.0.bn1.gain.weight", "linear.weight"],
    "diffusion model": ["time_embed.0.weight", "input_blocks.0.0.weight"],
    "a diffusion model": ["time_embedding.linear_1.weight", "down_blocks.0.resnets.0.conv1.weight"],
    "lucidrains": ["S.net.0.weight", "G.initial_block"],
    "hypernetwork": ["hypernet.conv1.weight"],
    "encoder under": ["encoder.input_layer.0.weight", "encoder.body.0.x", "encoder.styles.0.linear.weight"],
    "EG3D": ["backbone.synthesis.b4.const", "superresolution.block0.conv0.weight"],
    "SWAGAN": ["input.input", "to_rgbs.0.iwt.ll"],
}


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_are_named(read, name, wrapped):
    state = dialects.state_dict({("module." if wrapped else "") + tensor: ONES for tensor in OTHERS[name]})
    with pytest.raises(ConversionError, match=name):
        read(files.torch_zip({"state_dict": state} if wrapped else state))


def test_keywords_of_forks_that_state_the_ordinary_value_are_accepted(read):
    d = dialects.tensorflow_discriminator(dialects.random_discriminator())
    for keyword, usual, other in (("square", True, False), ("min_h", 4, 6), ("normalize_latents", True, False)):
        network = dialects.tensorflow_generator(G, **{keyword: usual, "novelty": None})
        assert read(files.plain((network, d, network))).kind == "generator"
        network = dialects.tensorflow_generator(G, **{keyword: other})
        with pytest.raises(ConversionError, match=f"built with {keyword}={other}"):
            read(files.plain((network, d, network)))


def test_keywords_of_forks_in_pickles_of_nvlabs(read):
    def made(**keywords):
        facts = files.generator_facts()
        facts["root"]["_init_kwargs"] = files.easy_dict(keywords)
        return files.plain({"G_ema": files.nvlabs(G, "Generator", facts)})

    assert not read(made(z_dim=4, square=True, mapping_kwargs=files.easy_dict({"num_layers": 2}))).notes
    assert any("novelty" in note for note in read(made(novelty=3)).notes)
    with pytest.raises(ConversionError, match="built with demodulate=False"):
        read(made(synthesis_kwargs=files.easy_dict({"demodulate": False})))
