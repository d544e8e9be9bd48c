"""HFGI against the original code, through the file that its project saves, and on any generator."""

import foreign_dialects as dialects
import foreign_files as files
import jax
import numpy as np
import pytest
from parity import assert_parity, nhwc
from small_runs import write_run

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.errors import LsapError
from lsap_jax.models.generator_file import load_generator
from lsap_jax.models.hfgi import Hfgi
from lsap_jax.models.network_file import attach, save
from lsap_jax.networks.hfgi import HfgiConfig, param_shapes
from lsap_jax.refinement.hfgi import HfgiRefiner
from lsap_jax.rendering.refinement import Refinement, take
from lsap_jax.rendering.render import synthesise
from lsap_jax.rendering.transforms import Details, ScaleShift
from lsap_jax.spaces import parse_space
from lsap_jax.testing import random_leaves, tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")
COUNT = 8
SMALL = HfgiConfig(
    resolution=8, channels=8, input_resolution=16, stem=4, stages=((6, 2, 1),), head_width=6, aligner_stem=4,
    aligner_stages=((6, 2, 1), (8, 2, 1)), rises=((8, 6), (4, 3)),
)  # fmt: skip


@pytest.mark.slow
def test_the_pipeline_of_a_converted_checkpoint(seeded, tmp_path):
    file, weights = seeded("hfgi_pipeline_g256")
    root = {"state_dict": dialects.state_dict(weights("pSp")), "latent_avg": files.T(file["latent_avg"])}
    (tmp_path / "hfgi.pt").write_bytes(files.torch_zip(root))
    G = load_generator(tmp_path / "hfgi.pt")
    assert G.parts.keys() == {"hfgi"} and G.parts["hfgi"].config == HfgiConfig(filter="bilinear")
    x = nhwc(file["x_u8"]).astype(np.float32) / 127.5 - 1
    ws = file["encoder_out"] + file["latent_avg"][None]
    refiner, space = HfgiRefiner(), parse_space("w+")
    _, refinement = jax.jit(refiner, static_argnums=1)(G, space, {"w": ws}, x, jax.random.key(0)[None], None)
    ((layer, details),) = refinement.transforms.items()
    assert layer == "b64.conv0"

    def shown(ws):
        return np.moveaxis(synthesise(G, space.decode(G, {"w": ws}), refinement), -1, 1)

    for key, codes in (("inversion", ws), ("edit", file["wplus_edited"])):
        assert_parity("hfgi", f"{key} image", shown(codes)[:, :, ::2], file[f"{key}/image/slice"])
    networks: Hfgi = G.parts["hfgi"]
    aligned = networks.aligned(details.details, networks.seen(G.synthesis(file["wplus_edited"])))
    assert_parity("hfgi", "edit aligned", np.moveaxis(aligned, -1, 1)[:, :, ::2, ::2], file["edit/aligned/slice"])
    scale, _ = networks.conditions(aligned)
    assert_parity("hfgi", "edit scale", np.moveaxis(scale, -1, 1)[:, ::32, ::4, ::2], file["edit/scale/slice"])


@pytest.fixture(scope="module")
def G():
    networks = Hfgi(config=SMALL, params=random_leaves(param_shapes(SMALL), np.random.default_rng(1)))
    return attach(tiny_generator(discriminator=False), networks)


@pytest.fixture(scope="module")
def codes(G):
    return {"w": np.asarray(G.mapping(np.random.default_rng(0).standard_normal((COUNT, 16), np.float32)))}


@pytest.fixture(scope="module")
def refined(quick_compilation, G, codes):
    return lsap_jax.refine(G, ("w+", codes), tiny_images(COUNT), "hfgi", batch_size=8)


def test_details_are_the_target_less_the_image(G, codes, refined):
    ((layer, kept),) = refined.refinement.transforms.items()
    plain = np.clip(G.synthesis(codes["w"]), -1, 1)
    assert layer == "b8.conv0" and set(refined.codes) == {"w"}
    np.testing.assert_allclose(kept.details, tiny_images(COUNT) / 127.5 - 1 - plain, atol=1e-5)
    assert np.abs(refined.images - plain).max() > 0.01


def test_an_edit_is_aligned_again(G, codes, refined):
    """Not the unedited scale and shift on the edited features, and not the details in their old places."""
    edited = codes["w"] + np.float32(0.5)
    shown = lsap_jax.render(G, "w+", {"w": edited}, refinement=refined.refinement)
    networks, details = G.parts["hfgi"], refined.refinement.transforms["b8.conv0"].details

    def changed(guide_codes, ws):
        aligned = networks.aligned(details, networks.seen(G.synthesis(guide_codes)))
        scale, shift = networks.conditions(aligned)
        moved = Refinement(transforms={"b8.conv0": ScaleShift(scale=1 + scale, shift=shift)})
        return lsap_jax.render(G, "w+", {"w": ws}, refinement=moved)

    np.testing.assert_allclose(changed(codes["w"], codes["w"]), refined.images, atol=1e-4)
    np.testing.assert_allclose(changed(edited, edited), shown, atol=1e-4)
    assert np.abs(changed(codes["w"], edited) - shown).max() > 0.01
    residual = np.clip(
        refined.images - lsap_jax.render(G, "w+", codes) + lsap_jax.render(G, "w+", {"w": edited}), -1, 1
    )
    assert np.abs(residual - shown).max() > 0.01


@pytest.mark.parametrize("size", [1, 3])
def test_no_image_sees_its_neighbours(G, codes, refined, size):
    found = lsap_jax.refine(G, ("w+", codes), tiny_images(COUNT), "hfgi", batch_size=size)
    jax.tree.map(np.testing.assert_array_equal, found.refinement, refined.refinement)
    np.testing.assert_array_equal(found.images, refined.images)


def test_strength_0_and_masks(G, codes, refined):
    edited = lsap_jax.edit(G, "w+", codes, "random:0", [0, 2], images=refined.images, refinement=refined.refinement)
    np.testing.assert_array_equal(edited.images[0], refined.images)
    assert np.abs(edited.images[1] - refined.images).max() > 0.01
    masks = np.zeros((COUNT, 16, 16), np.float32)
    masks[:, :8] = 1
    half = lsap_jax.refine(G, ("w+", codes), tiny_images(COUNT), "hfgi", masks=masks)
    kept, whole = (one.refinement.transforms["b8.conv0"].details for one in (half, refined))
    np.testing.assert_array_equal(kept[:, :8], whole[:, :8])
    assert not kept[:, 8:].any()


def test_a_file_of_weights_brings_the_networks(G, codes, refined, tmp_path):
    bare = G.without("hfgi")
    save(tmp_path / "hfgi.safetensors", G.parts["hfgi"], {})
    one = {"w": codes["w"][:1]}
    found = lsap_jax.refine(bare, ("w+", one), tiny_images(1), "hfgi", weights=str(tmp_path / "hfgi.safetensors"))
    jax.tree.map(np.testing.assert_array_equal, found.refinement, take(refined.refinement, slice(0, 1)))
    with pytest.raises(LsapError, match="neither this generator nor a file of weights has its networks"):
        lsap_jax.refine(bare, ("w+", one), tiny_images(1), "hfgi")


def test_other_generators_and_codes_are_refused(G, codes):
    f = {"w": codes["w"][:1], "f": np.zeros((1, 8, 8, 8), np.float32)}
    with pytest.raises(LsapError, match=r"method 'hfgi': .* codes of f/w\+ .* refine a run in W\+"):
        lsap_jax.refine(G, (parse_space("f/w+", base_resolution=8), f), tiny_images(1), "hfgi")
    networks = G.parts["hfgi"]
    for changes, message in (
        ({"resolution": 32}, "block of 32 px, this generator has blocks of 4, 8, 16 px"),
        ({"channels": 6}, "change 6 features at 8 px, of images with 3 channels; this generator has 8 and 3"),
    ):
        other = networks.replace(config=HfgiConfig(**{**vars(SMALL), **changes}))
        with pytest.raises(LsapError, match=message):
            attach(G.without("hfgi"), other)
    details = Details(details=np.zeros((1, 16, 16, 3), np.float32))
    with pytest.raises(LsapError, match="Details reads the network 'hfgi', which this generator does not come with"):
        lsap_jax.render(
            G.without("hfgi"), "w+", {"w": codes["w"][:1]}, refinement=Refinement(transforms={"b8.conv0": details})
        )


def test_a_refined_run_is_verified_and_edited(G, codes, tmp_path, capsys):
    ids = ("a", "b")
    G.without("hfgi").save(tmp_path / "g.safetensors")
    save(tmp_path / "hfgi.safetensors", G.parts["hfgi"], {})
    run, out, edits = (tmp_path / name for name in ("run", "refined", "edits"))
    write_run(run, G.without("hfgi"), tmp_path / "g.safetensors", "w+", ids, tiny_images(2))
    refine = ("refine", run, "--method=hfgi", "--weights", tmp_path / "hfgi.safetensors", "--out", out)
    for words in (refine, ("verify", out), ("edit", out, "--direction=random:0", "--strengths=0,2", "--out", edits)):
        assert main([str(word) for word in words]) == 0, capsys.readouterr().err
    assert main(["verify", str(edits)]) == 0
    assert "all match" in capsys.readouterr().out
    for id in ids:
        still = edits / "images" / id / "random-0" / "0.png"
        assert still.read_bytes() == (out / "images" / f"{id}.png").read_bytes()
