"""Directions of other projects' files: what is read, with which space and layers, and what is refused."""

import io
from dataclasses import replace

import numpy as np
import pytest
from foreign_files import npz, torch_legacy, torch_zip
from test_editing import some_codes

import lsap_jax
from lsap_jax.editing.direction import fitted, found_elsewhere
from lsap_jax.editing.imported import load_directions
from lsap_jax.editing.named import find
from lsap_jax.errors import LsapError
from lsap_jax.spaces import parse_space

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
ROW = RNG.standard_normal((1, 16)).astype(np.float32)
COMP = RNG.standard_normal((60, 1, 16)).astype(np.float32)
STD = np.linspace(3, 1, 60, dtype=np.float32)


def npy(array) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def tensor(array):
    from foreign_files import T

    return T(np.ascontiguousarray(array))


def saved(folder, name: str, content: bytes):
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("container", [torch_zip, torch_legacy])
def test_the_official_torch_files(tmp_path, tiny, container):
    found = load_directions(saved(tmp_path, "age.pt", container(tensor(ROW))))
    assert list(found) == ["age"] and found["age"].space == "w" and found["age"].layers is None
    np.testing.assert_array_equal(found["age"].vector, ROW[0])
    pose = load_directions(saved(tmp_path, "pose.pt", container(tensor(np.tile(ROW[None], (1, 6, 1))))))["pose"]
    for name in ("w", "w+", "f/w+"):
        np.testing.assert_array_equal(fitted(tiny, parse_space(name), pose), ROW[0])
    codes = some_codes(tiny, parse_space("w+"))
    edited = lsap_jax.edit(tiny, "w+", codes, pose, [1.0], layers="middle")
    np.testing.assert_allclose(edited.codes["w"][0][:, 4:], codes["w"][:, 4:] + ROW[0], atol=1e-6)


def test_interfacegan_boundaries_of_float64(tmp_path, tiny):
    w = load_directions(saved(tmp_path, "stylegan_ffhq_age_w_boundary.npy", npy(ROW.astype(np.float64))))
    assert [(d.space, d.vector.dtype) for d in w.values()] == [("w", np.float32)]
    rows = RNG.standard_normal((6, 16))
    z = load_directions(saved(tmp_path, "smile_boundary.npy", npy(rows.reshape(1, -1))))["smile_boundary"]
    np.testing.assert_allclose(fitted(tiny, parse_space("z+"), z), rows, atol=1e-6)
    with pytest.raises(LsapError, match="another generator"):
        fitted(tiny, parse_space("z"), z)


def test_ganspace_as_pti_has_it_with_named_layer_ranges(tmp_path):
    file = torch_zip({"mean": tensor(ROW), "comp": tensor(COMP), "std": tensor(STD)})
    found = load_directions(saved(tmp_path, "ffhq_pca.pt", file))
    assert len(found) == 65 and found["smile"].layers == (4,) and found["white_hair"].layers == (7, 8, 9)
    smile = found["smile"]
    np.testing.assert_array_equal(smile.vector, COMP[46, 0])
    np.testing.assert_array_equal(smile.mean, ROW[0])
    assert smile.scale == STD[46] and smile.space == "w" and smile.source == "file ffhq_pca.pt, component 46"
    assert found["ganspace-46"].layers is None
    other = load_directions(saved(tmp_path, "cars_pca.pt", file), layers="coarse")
    assert len(other) == 60 and other["ganspace-0"].layers == "coarse"


@pytest.mark.parametrize(("stdev", "own"), [(np.ones(60), "z"), (STD, "w")])
def test_ganspace_npz_files_say_their_space_by_their_deviations(tmp_path, stdev, own):
    arrays = {"act_comp": COMP[::-1], "act_mean": ROW + 1, "act_stdev": STD[::-1], "var_ratio": STD}
    arrays |= {"lat_comp": COMP, "lat_mean": ROW, "lat_stdev": stdev, "random_stdevs": STD}
    path = saved(tmp_path, "style_ipca.npz", npz(arrays))
    found = load_directions(path)["ganspace-2"]
    assert found.space == own and found.scale == stdev[2] and (found.mean is None) == (own == "z")
    np.testing.assert_array_equal(found.vector, COMP[2, 0])
    if own == "z":
        layer = load_directions(path, space="w")["ganspace-2"]
        np.testing.assert_array_equal(layer.vector, COMP[57, 0])
        np.testing.assert_array_equal(layer.mean, ROW[0] + 1)
        assert layer.space == "w" and layer.scale == STD[57]
    else:
        with pytest.raises(LsapError, match="are of w, not of z"):
            load_directions(path, space="z")


class Attack:
    def __reduce__(self):
        return print, ("ran",)


def test_a_boundary_with_its_layers_pickled_into_an_npy(tmp_path, tiny):
    content = {"boundary": ROW.astype(np.float64), "meta_data": {"manipulate_layers": [0, 2, 3], "name": "age"}}
    path = saved(tmp_path, "age_w_boundary.npy", npy(np.array(content, object)))
    age = load_directions(path)["age_w_boundary"]
    assert (age.space, age.layers) == ("w", (0, 2, 3))
    np.testing.assert_array_equal(age.vector, ROW[0])
    assert load_directions(path, layers="fine")["age_w_boundary"].layers == "fine"
    several = {"smile": content, "beard": {"boundary": 2 * ROW}}
    found = load_directions(saved(tmp_path, "boundary.npy", npy(np.array(several, object))), space="w")
    assert {name: one.layers for name, one in found.items()} == {"smile": (0, 2, 3), "beard": None}
    np.testing.assert_array_equal(found["beard"].vector, 2 * ROW[0])


@pytest.mark.parametrize("container", [torch_zip, lambda d: npz(d), lambda d: npy(np.array(d, object))])
def test_several_directions_in_one_file(tmp_path, tiny, container):
    rows = {"smile": ROW, "pose": np.tile(ROW, (6, 1)), "beard": RNG.standard_normal((6, 16)).astype(np.float32)}
    content = container({n: tensor(a) for n, a in rows.items()} if container is torch_zip else rows)
    path = saved(tmp_path, "many.pt", content)
    found = load_directions(path, space="w")
    assert {name: one.vector.shape for name, one in found.items()} == {
        "smile": (16,),
        "pose": (6, 16),
        "beard": (6, 16),
    }
    chosen = find(tiny, "w+", f"{path}:beard@w")
    assert [one.name for one in chosen] == ["beard"] and len(find(tiny, "w+", f"{path}@w")) == 3
    with pytest.raises(LsapError, match="no direction 'smiles'"):
        find(tiny, "w+", f"{path}:smiles@w")


def test_the_factors_of_sefa_are_its_columns(tmp_path, tiny):
    factors = np.linalg.qr(RNG.standard_normal((16, 16)))[0].astype(np.float32)
    path = saved(tmp_path, "factor.pt", torch_zip({"ckpt": "550000.pt", "eigvec": tensor(factors)}))
    for text in (path, f"{path}@w"):
        found = find(tiny, "w", str(text))
        assert [one.name for one in found] == [f"factor-{k}" for k in range(16)]
    (second,) = find(tiny, "w+", f"{path}:factor-1")
    np.testing.assert_array_equal(second.vector, factors[:, 1])
    with pytest.raises(LsapError, match="directions of w, not of z"):
        load_directions(path, space="z")


def test_equal_rows_are_one_row_for_any_number_of_layers(tmp_path, tiny):
    for count in (1, 4, 6, 18):
        for shape in ((count, 16), (1, count, 16)):
            path = saved(tmp_path, "smile.npy", npy(np.tile(ROW, (1, count)).reshape(shape)))
            smile = load_directions(path, space="w")["smile"]
            for name in ("w", "w+", "f/w+"):
                np.testing.assert_array_equal(fitted(tiny, parse_space(name), smile), ROW[0])
            noted = found_elsewhere(tiny, [smile])
            assert ("18 layers, this one has 6" in noted) == (count == 18), (count, shape)
    odd = replace(smile, vector=RNG.standard_normal((18, 16)).astype(np.float32))
    with pytest.raises(LsapError, match="has 18 rows; this generator has 6"):
        fitted(tiny, parse_space("w+"), odd)
    for length in (15, 17, 40, 5 * 16, 512):  # never cut, never filled
        with pytest.raises(LsapError, match="made for another generator"):
            fitted(tiny, parse_space("w+"), replace(smile, vector=np.arange(length, dtype=np.float32)))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("mine.npy", npy(ROW), "the space of this direction is unknown"),
        ("a_boundary.npy", npy(np.array([{"boundary": ROW}], object)), "pickled Python objects"),
        ("a_boundary.npy", npy(np.array({"boundary": Attack()}, object)), "print"),
        ("a_boundary.npy", npy(np.array({"boundary": ROW, "meta_data": {"manipulate_layers": ["x"]}}, object)), "rows"),
        ("a_boundary.npy", npy(np.array({"../../x": ROW, "b": ROW}, object)), "cannot be the name of a direction"),
        ("a_boundary.npy", npy(np.full((1, 16), np.nan)), "not finite"),
        ("a_boundary.npy", npy(np.ones((3, 2, 16))), "is not a direction"),
        ("a_boundary.npy", npy(np.ones((1, 16), np.int64)), "floating-point"),
        ("a_boundary.npy", npy(ROW)[:-3], "damaged or truncated"),
        ("age.pt", b"<html>", "is a web page"),
        ("age.pt", b"", "is empty"),
        ("mine.pt", torch_zip({"a": tensor(ROW), "b": tensor(ROW)}), "the space of this direction is unknown"),
        ("age.pt", torch_zip({"a": tensor(ROW), "n": tensor(np.float32(3))}), r"shape \[1\] is not a direction"),
        ("factor.pt", torch_zip({"eigvec": tensor(COMP[:, 0].T)}), "not a matrix with a direction per column"),
        ("age.pt", torch_zip([1]), "holds no arrays"),
        ("x.npz", npz({"lat_comp": COMP, "lat_mean": ROW, "lat_stdev": STD[:5]}), "do not belong together"),
        ("age.pt", torch_zip(Attack()), "print"),
    ],
)
def test_other_files_are_refused_with_the_reason(tmp_path, capsys, name, content, reason):
    with pytest.raises(LsapError, match=reason) as error:
        load_directions(saved(tmp_path, name, content))
    assert name in str(error.value) and "ran" not in capsys.readouterr().out


def test_space_and_path_are_checked(tmp_path):
    path = saved(tmp_path, "mine.npy", npy(ROW))
    assert load_directions(path, space="pn", layers="fine")["mine"].space == "pn"
    with pytest.raises(LsapError, match="directions are of z, w, s, p, pn"):
        load_directions(path, space="w+")
    with pytest.raises(LsapError, match="cannot be read"):
        load_directions(tmp_path / "none.pt")
