"""Codes of other tools as the start of an inversion."""

import foreign_files as files
import jax
import numpy as np
import pytest

from lsap_jax.cli.invert import tell_of_base
from lsap_jax.configuration import load_config
from lsap_jax.errors import LsapError
from lsap_jax.inversion.start import read_start, starting_codes
from lsap_jax.spaces import parse_space
from lsap_jax.spaces.mapping_inverse import fit_z
from lsap_jax.testing import tiny_generator

pytestmark = pytest.mark.usefixtures("quick_compilation")

IDS = ("a", "b/c", "d")


@pytest.fixture(scope="module")
def G():
    return tiny_generator(discriminator=False)


def rows(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_a_file_is_in_the_order_of_the_ids(tmp_path):
    codes = rows(3, 6, 16)
    np.savez(tmp_path / "codes.npz", ws=codes)
    kind, found = read_start(tmp_path / "codes.npz", IDS)
    assert kind == "w" and list(found) == list(IDS)
    np.testing.assert_array_equal(found["b/c"]["w"], codes[1])
    (tmp_path / "codes.pt").write_bytes(files.torch_zip({"z": files.T(codes[:, 0])}))
    kind, found = read_start(tmp_path / "codes.pt", IDS)
    assert kind == "z" and found["d"]["z"].shape == (1, 16)


def test_a_folder_has_a_file_per_id(tmp_path):
    (tmp_path / "b").mkdir()
    np.savez(tmp_path / "a.npz", z=rows(6, 16))
    np.savez(tmp_path / "b" / "c.npz", z=rows(1, 6, 16))
    kind, found = read_start(tmp_path, IDS)
    assert kind == "z" and {id: code["z"].shape for id, code in found.items()} == {"a": (6, 16), "b/c": (6, 16)}


def test_a_single_image_takes_rows(tmp_path):
    np.save(tmp_path / "w.npy", rows(6, 16))
    kind, found = read_start(tmp_path / "w.npy", ["a"], "w")
    assert kind == "w" and found["a"]["w"].shape == (6, 16)


def test_what_cannot_be_told_is_asked_for(tmp_path):
    np.save(tmp_path / "codes.npy", rows(3, 6, 16))
    with pytest.raises(LsapError, match="add --init_kind=z or w"):
        read_start(tmp_path / "codes.npy", IDS)
    assert read_start(tmp_path / "codes.npy", IDS, "z")[0] == "z"
    with pytest.raises(LsapError, match="3 codes for 2 images"):
        read_start(tmp_path / "codes.npy", IDS[:2], "z")
    with pytest.raises(LsapError, match="has no code of these images"):
        read_start(tmp_path, IDS)


def pickled(path, content):
    np.save(path, np.array(content, object), allow_pickle=True)


def test_codes_by_the_names_of_images(tmp_path):
    codes = rows(5, 6, 16)
    named = {"photos/a.png": codes[:2], "x/b/c.jpg": codes[2:], "other.png": codes[:1]}
    pickled(tmp_path / "latents.npy", named)
    pickled(tmp_path / "steps.npy", {name: list(steps) for name, steps in named.items()})
    for file in ("latents.npy", "steps.npy"):
        kind, found = read_start(tmp_path / file, IDS, "w")
        assert kind == "w" and list(found) == ["a", "b/c"]  # d has no code
        np.testing.assert_array_equal(found["a"]["w"], codes[1])  # the last step
        np.testing.assert_array_equal(found["b/c"]["w"], codes[4])
    with pytest.raises(LsapError, match="none of these images, as 'e'"):
        read_start(tmp_path / "latents.npy", ["e"], "w")
    pickled(tmp_path / "twice.npy", {"x/a.png": codes[:1], "y/a.png": codes[:1]})
    with pytest.raises(LsapError, match="has 2 codes for 'a'"):
        read_start(tmp_path / "twice.npy", ["a"], "w")


def test_the_dictionary_of_a_projector(tmp_path):
    w = rows(2, 16)
    entry = {"img": files.T(rows(3, 4, 4)), "noise": [files.T(rows(1, 1, 4, 4))]}
    content = {
        name: entry | {"latent": files.T(code.copy())} for name, code in zip(("in/a.png", "in/d.png"), w, strict=True)
    }
    (tmp_path / "projector.pt").write_bytes(files.torch_zip(content))
    kind, found = read_start(tmp_path / "projector.pt", IDS)  # this projector works in W
    assert kind == "w" and found.keys() == {"a", "d"}
    np.testing.assert_array_equal(found["d"]["w"], w[1:])


def test_a_folder_may_have_a_folder_per_image(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.pt").write_bytes(files.torch_zip(files.T(rows(1, 6, 16))))
    kind, found = read_start(tmp_path, IDS, "w")
    assert kind == "w" and found.keys() == {"a"}
    np.save(tmp_path / "a" / "1.npy", rows(6, 16))
    with pytest.raises(LsapError, match="has 2 files of codes"):
        read_start(tmp_path, IDS, "w")


def test_the_name_of_a_file_tells_the_kind_of_a_bare_array(tmp_path):
    (tmp_path / "z.pt").write_bytes(files.torch_zip(files.T(rows(3, 6, 16))))
    np.save(tmp_path / "w.npy", rows(3, 6, 16))
    assert read_start(tmp_path / "z.pt", IDS)[0] == "z" and read_start(tmp_path / "w.npy", IDS)[0] == "w"


def test_equal_rows_are_one_row_and_others_are_never_cut(G):
    w = rows(1, 16)
    start, residuals = starting_codes(G, parse_space("w+"), "w", {"a": {"w": np.tile(w, (18, 1))}})
    np.testing.assert_array_equal(start["a"]["w"], np.tile(w, (6, 1)))
    assert residuals is None
    for shape in ((18, 16), (6, 15), (1, 96)):
        with pytest.raises(LsapError, match="takes finite numbers"):
            starting_codes(G, parse_space("w+"), "w", {"a": {"w": rows(*shape)}})


def test_z_codes_are_put_on_the_sphere(G):
    given = {"a": {"z": rows(6, 16)}, "d": {"z": rows(1, 16)}}
    start, residuals = starting_codes(G, parse_space("f/z+"), "z", given)
    assert residuals is None and {id: code["z"].shape for id, code in start.items()} == {"a": (6, 16), "d": (6, 16)}
    np.testing.assert_allclose(np.linalg.norm(start["a"]["z"], axis=-1), 4, rtol=1e-5)
    cosine = (start["a"]["z"] * given["a"]["z"]).sum(-1) / np.linalg.norm(given["a"]["z"], axis=-1) / 4
    np.testing.assert_allclose(cosine, 1, rtol=1e-5)
    one, _ = starting_codes(G, parse_space("z"), "z", {"d": given["d"]})
    assert one["d"]["z"].shape == (16,)
    with pytest.raises(LsapError, match=r"z code of 'a' is \[6, 16\]; space z "):
        starting_codes(G, parse_space("z"), "z", given)


def test_w_codes_of_the_generator_are_found_again(G):
    """w = mapping(z) lies in the range of the mapping, so that the fit can reach it."""
    z = jax.random.normal(jax.random.key(3), (2, 6, 16))
    ws = np.asarray(G.map_rows(z))
    start, residuals = starting_codes(G, parse_space("z+"), "w", {"a": {"w": ws[0]}, "b": {"w": ws[1]}})
    assert residuals.shape == (2,) and residuals.max() < 0.05
    reached = G.map_rows(np.stack([start["a"]["z"], start["b"]["z"]]))
    assert np.linalg.norm(reached - ws) / np.linalg.norm(ws - G.w_avg[None, None]) < 0.05
    np.testing.assert_allclose(np.linalg.norm(start["a"]["z"], axis=-1), 4, rtol=1e-5)


def test_truncation_of_the_space_is_undone_before_the_fit(G):
    space = parse_space("z+", truncation_psi=0.5, truncation_cutoff=2)
    ws = np.asarray(G.truncate(G.map_rows(jax.random.normal(jax.random.key(4), (1, 6, 16))), 0.5, 2))
    start, _ = starting_codes(G, space, "w", {"a": {"w": ws[0]}})
    shown = space.decode(G, {"z": start["a"]["z"][None]}).ws
    assert np.linalg.norm(shown - ws) / np.linalg.norm(ws) < 0.05


def test_a_space_with_one_z_takes_the_mean_row(G):
    ws = np.asarray(G.map_rows(jax.random.normal(jax.random.key(5), (1, 6, 16))))[0]
    start, residuals = starting_codes(G, parse_space("f/z"), "w", {"a": {"w": ws}})
    assert start["a"]["z"].shape == (16,) and 0.05 < residuals[0] < 2


def test_rows_of_the_fit_do_not_influence_each_other(G):
    ws = np.asarray(G.map_w(jax.random.normal(jax.random.key(6), (5, 16))))
    whole = fit_z(G, ws, steps=20)
    alone = fit_z(G, ws[2:3], steps=20)
    np.testing.assert_allclose(whole[2], alone[0], rtol=1e-3, atol=1e-3)


def test_codes_of_another_generator_are_refused(G):
    with pytest.raises(LsapError, match=r"w code of 'a' is \[6, 32\].*\[1, 16\] or \[6, 16\]"):
        starting_codes(G, parse_space("z+"), "w", {"a": {"w": rows(6, 32)}})
    with pytest.raises(LsapError, match="finite"):
        starting_codes(G, parse_space("z+"), "z", {"a": {"z": rows(6, 16) * np.nan}})


def test_it_is_said_where_f_does_not_begin_at_the_image(capsys):
    bare, own = tiny_generator(), tiny_generator(basecode=True)
    tell_of_base(bare, load_config("f/z+"), "g.safetensors")
    told = capsys.readouterr().err
    assert "g.safetensors has no encoder of base codes of 4 px: f begins at the features of the mean w" in told
    tell_of_base(own, load_config("f/z+"), "")
    tell_of_base(bare, load_config("f/z+", {"init.f": "w_avg"}), "")
    tell_of_base(bare, load_config("w+"), "")
    assert not capsys.readouterr().err
