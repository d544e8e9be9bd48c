"""`lsap-jax export --format generator`: the file makes the picture of the run, and other tools and ours read it."""

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from small_runs import write_run

import lsap_jax
from convert_weights.archive import Archive
from convert_weights.nvlabs import state_dict
from convert_weights.stylegan2 import generator_config
from convert_weights.torch_file import read_zip
from lsap_jax.cli import main
from lsap_jax.networks.parameters import canonical, from_canonical, halved
from lsap_jax.rendering.refinement import Full, LowRank, Refinement
from lsap_jax.rendering.transforms import ScaleShift
from lsap_jax.storage.results import read_code, read_image
from lsap_jax.testing import tiny_generator

pytestmark = pytest.mark.usefixtures("quick_compilation")
IDS = ("a", "b", "c", "d")
MAPPING = {"mapping.fc0.weight": Full(delta=halved(np.full((16, 16), 0.1, np.float32)))}


@pytest.fixture(scope="module")
def work(quick_compilation, tmp_path_factory):
    """A folder with a run in W+ in which a has tuned weights, b none, c a transform, d a tuned mapping network."""
    folder, G = tmp_path_factory.mktemp("work"), tiny_generator()
    G.save(folder / "g.safetensors")
    rng = np.random.default_rng(0)

    def draw(*shape):
        return halved(0.2 * rng.standard_normal(shape))

    weights = {
        "synthesis.b8.conv1.weight": LowRank(up=draw(72, 2), down=draw(2, 8)),
        "synthesis.b8.conv0.noise_strength": Full(delta=draw()),
        "synthesis.b4.const": Full(delta=draw(4, 4, 8)),
        "synthesis.b16.torgb.affine.weight": LowRank(up=draw(16, 1), down=draw(1, 8)),
    }
    own = [
        Refinement(weights=weights),
        None,
        Refinement(transforms={"b16.torgb": ScaleShift(scale=draw(16, 16, 3), shift=draw(16, 16, 3))}),
        Refinement(weights=MAPPING),
    ]
    write_run(folder / "run", G, folder / "g.safetensors", "w+", IDS, refinements=own)
    return folder


def export(work, target, *more):
    words = ["export", work / "run", target, "--format=generator", *more]
    return main([str(word) for word in words])


@pytest.mark.parametrize("name", ["tuned.safetensors", "tuned.pt"])
def test_the_tuned_generator_makes_the_picture_of_the_run(work, tmp_path, capsys, name):
    """For the .pt through our converter: every tensor is used once, or is the resampling filter."""
    assert export(work, tmp_path / name, "--id=a") == 0
    assert "the generator tuned for a, 16 px" in capsys.readouterr().out
    G = lsap_jax.load_generator(tmp_path / name)
    image = G.synthesis(read_code(work / "run", "a")["w"][None])[0]
    shown = np.asarray(read_image(work / "run", "a"), int)
    assert np.abs(np.clip(np.asarray(image) * 127.5 + 127.5, 0, 255) - shown).max() < 1
    plain = lsap_jax.load_generator(work / "g.safetensors").synthesis(read_code(work / "run", "a")["w"][None])[0]
    assert np.abs(np.asarray(plain) - np.asarray(image)).max() > 0.05
    if name.endswith(".pt"):
        assert export(work, tmp_path / "again.safetensors", "--id=a") == 0
        other = lsap_jax.load_generator(tmp_path / "again.safetensors")
        assert other.network_sha256 == G.network_sha256 and "tuned for the image a" in other.provenance["tuned"]


def test_a_tuned_mapping_network_is_exported_too(work, tmp_path):
    assert export(work, tmp_path / "d.pth", "--id=d") == 0
    before, after = (lsap_jax.load_generator(p) for p in (work / "g.safetensors", tmp_path / "d.pth"))
    z = np.ones((1, 16), np.float32)
    assert np.abs(np.asarray(before.mapping(z)) - np.asarray(after.mapping(z))).max() > 1e-3


@pytest.mark.parametrize("name", ["nv_g32", "nv_g16_resnet"])
def test_names_and_layouts_are_those_of_the_original(golden, name):
    """Through our params and back, the original's state dict is the same, its filters among it."""
    file = golden(name)
    original = {k.removeprefix("sd/"): a for k, a in file.items() if k.startswith("sd/")}
    config = generator_config({k: a.shape for k, a in original.items()})
    plain = {k: a for k, a in original.items() if not k.endswith("resample_filter")}
    leaves = {tuple(k.split(".")): from_canonical(k, a) for k, a in plain.items()}
    found = state_dict(canonical(unflatten_dict(leaves)), config)
    assert found.keys() == original.keys()
    for key, a in original.items():
        np.testing.assert_allclose(found[key], a, rtol=1e-6, err_msg=key)


def test_the_file_is_a_plain_dict_of_tensors(work, tmp_path):
    assert export(work, tmp_path / "tuned.pt", "--id=a") == 0
    with open(tmp_path / "tuned.pt", "rb") as file:
        tensors = read_zip(Archive(file, (tmp_path / "tuned.pt").stat().st_size))
        G = lsap_jax.load_generator(tmp_path / "tuned.pt")
        for key, array in canonical(G.params).items():
            np.testing.assert_array_equal(np.asarray(tensors[key].load()).reshape(array.shape), array)
        filters = [key for key in tensors if key.endswith("resample_filter")]
        assert len(filters) == len(tensors) - len(canonical(G.params)) == 3 + 5  # of blocks, and of their convolutions


def test_what_is_no_tuned_generator_is_refused(work, tmp_path, capsys):
    for words, message in (
        (("--id=x",), "--id=x: is not a finished image of"),
        (("--id=b",), "'b' is not refined"),
        (("--id=c",), "'c' is refined by transforms of features (b16.torgb), which no file of a generator holds"),
        ((), "--id is missing"),
        (("--id=a", "--ws"), "--array, --ws: are of codes"),
    ):
        assert export(work, tmp_path / "x.pt", *words) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert main(["export", str(work / "run"), str(tmp_path / "x.npz"), "--id=a"]) == 2
    assert "--id=a: goes with --format=generator" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_codes_of_a_tuned_mapping_network_are_no_ws_of_the_generator(work, tmp_path, capsys):
    write_run(
        tmp_path / "z", tiny_generator(), work / "g.safetensors", "z", ("a",), refinements=[Refinement(weights=MAPPING)]
    )
    assert main(["export", str(tmp_path / "z"), str(tmp_path / "x.npz"), "--ws"]) == 2
    assert "the mapping network was tuned for 'a'" in capsys.readouterr().err
    assert not (tmp_path / "x.npz").exists()
