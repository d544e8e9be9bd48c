"""StyleCLIP's global directions from stand-ins of its files: the formula, the names, what is refused."""

import io
import pickle

import numpy as np
import pytest
from foreign_files import npz
from test_editing import some_codes

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.editing.interfacegan import drawn
from lsap_jax.editing.named import find
from lsap_jax.editing.styleclip import drawn_deviations, global_directions, read_deviations
from lsap_jax.errors import LsapError
from lsap_jax.spaces import parse_space

pytestmark = pytest.mark.usefixtures("quick_compilation")
RNG = np.random.default_rng(5)
D = 12


@pytest.fixture(scope="module")
def G(tiny):
    return tiny.without("discriminator", "basecode")


@pytest.fixture(scope="module")
def facts(G):
    """(is each channel one of a convolution, relevance, deviations by layer)"""
    layers = G.config.layers
    convs = np.concatenate([np.full(one.width, one.kind == "conv") for one in layers])
    relevance = RNG.standard_normal((convs.sum(), D)).astype(np.float32) * 0.1
    return convs, relevance, [RNG.uniform(0.1, 2, one.width) for one in layers]


def npy(array) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


@pytest.fixture
def files(tmp_path, facts):
    """fs3.npy, S_mean_std as the authors pickle it, and two differences of text features."""
    _, relevance, deviations = facts
    (tmp_path / "fs3.npy").write_bytes(npy(relevance))
    (tmp_path / "S_mean_std").write_bytes(pickle.dumps([[np.zeros_like(a) for a in deviations], deviations], 4))
    texts = {"glasses": RNG.standard_normal((1, D)), "purple hair": 5 * RNG.standard_normal(D)}
    (tmp_path / "texts.npz").write_bytes(npz(texts))
    (tmp_path / "smile.npy").write_bytes(npy(texts["glasses"][0]))
    return tmp_path, texts


def by_hand(facts, difference, beta):
    convs, relevance, deviations = facts
    r = relevance @ (difference / np.linalg.norm(difference)).ravel()
    r[np.abs(r) < beta] = 0
    step = np.zeros(len(convs))
    step[convs] = r / np.abs(r).max()
    return step * np.concatenate(deviations)


def test_the_formula_and_the_names(G, facts, files):
    folder, texts = files
    deviations = read_deviations(G, folder / "S_mean_std")
    found = global_directions(G, folder / "fs3.npy", folder / "texts.npz", deviations, 0.1)
    assert [one.name for one in found] == ["glasses", "purple hair"]
    for one, difference in zip(found, texts.values(), strict=True):
        np.testing.assert_allclose(one.vector, by_hand(facts, difference, 0.1), atol=1e-6)
        assert 0 < one.measures["channels"] < 1 and one.space == "s"
    few = global_directions(G, folder / "fs3.npy", folder / "texts.npz", deviations, 0.2)
    assert few[0].measures["channels"] < found[0].measures["channels"]
    (one,) = global_directions(G, folder / "fs3.npy", folder / "smile.npy", deviations, 0.1)
    np.testing.assert_array_equal(one.vector, found[0].vector)
    assert one.name == "smile"


def test_deviations_of_samples(G):
    found = drawn_deviations(G, 1500, 3)
    codes = drawn(G, 1500, 3).codes(G, "s", np.arange(1500))
    np.testing.assert_allclose(found, codes.std(axis=0), rtol=1e-4)


def test_the_command_finds_them_and_codes_of_s_move_along(G, facts, files, capsys):
    folder, texts = files
    G.save(folder / "g.safetensors")
    given = ["--method=styleclip", "--space=s", f"--relevance={folder}/fs3.npy", f"--text={folder}/texts.npz"]
    given += [f"--statistics={folder}/S_mean_std", "--beta=0.1", "--nopicture", f"--out={folder}/d.safetensors"]
    assert main(["find-directions", f"--generator={folder}/g.safetensors", *given]) == 0
    assert "2 directions in" in capsys.readouterr().out
    space = parse_space("s")
    codes = some_codes(G, space)
    edits = lsap_jax.edit(G, "s", codes, f"{folder}/d.safetensors:glasses", [0.0, 4.0])
    np.testing.assert_allclose(
        edits.codes["s"][1] - codes["s"], 4 * by_hand(facts, texts["glasses"], 0.1)[None].repeat(3, 0), atol=1e-4
    )
    np.testing.assert_array_equal(edits.codes["s"][0], codes["s"])
    assert np.abs(edits.images[0] - edits.images[1]).max() > 0.01
    with pytest.raises(LsapError, match="holds directions of s, none for space w"):
        find(G, "w+", f"{folder}/d.safetensors")
    assert main(["find-directions", f"--generator={folder}/g.safetensors", *given[2:], "--method=styleclip"]) == 2
    assert "are of s, not of w; give --space s" in capsys.readouterr().err


def test_what_does_not_belong_together_is_refused(G, facts, files):
    folder, _ = files
    _, relevance, deviations = facts
    plain = np.concatenate(deviations)
    (folder / "short.npy").write_bytes(npy(relevance[1:]))
    with pytest.raises(LsapError, match="made for another generator"):
        global_directions(G, folder / "short.npy", folder / "smile.npy", plain)
    (folder / "other.npy").write_bytes(npy(np.ones(D + 1)))
    with pytest.raises(LsapError, match=f"the difference of text features is \\[{D}\\]"):
        global_directions(G, folder / "fs3.npy", folder / "other.npy", plain)
    with pytest.raises(LsapError, match="no channel has relevance 9; give a --beta below 0"):
        global_directions(G, folder / "fs3.npy", folder / "smile.npy", plain, 9)
    with pytest.raises(LsapError, match="beta nan"):
        global_directions(G, folder / "fs3.npy", folder / "smile.npy", plain, float("nan"))
    with pytest.raises(LsapError, match="cannot be read|No such file"):
        global_directions(G, folder / "missing.npy", folder / "smile.npy", plain)
    for content in ([deviations[:-1]] * 2, [deviations], {"std": deviations}, [deviations, [-a for a in deviations]]):
        (folder / "S").write_bytes(pickle.dumps(content, 4))
        with pytest.raises(LsapError, match="S: (holds deviations of|has deviations that are negative)"):
            read_deviations(G, folder / "S")
