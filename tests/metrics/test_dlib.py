"""dlib's face recognition network: its file, its descriptors against dlib's own, and faces cut out by the eyes."""

import io
import math
import struct
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
from foreign_dlib import alias, other_weights, real, tensor, whole, written
from parity import assert_parity
from PIL import Image
from skimage import data as photographs

import convert_weights
from convert_weights import dlib_file
from convert_weights.checkpoint import ConversionError
from lsap_jax.faces.detect import load_detector
from lsap_jax.metrics.identity import compare_identities, face_embeddings, identity_similarity, load_embedder
from lsap_jax.models.embedder import embed
from lsap_jax.networks import dlib_resnet
from lsap_jax.networks.parameters import flat

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "dlib.npz"


@pytest.fixture(scope="module")
def reference():
    """Chips that dlib cut out of a photograph and of ten similarity transforms of it, and dlib's descriptors with the
    weights rounded as the bundled ones are.
    """
    with np.load(VECTORS) as file:
        chips = [np.asarray(Image.open(io.BytesIO(file[f"chip{k}"].tobytes())).convert("RGB")) for k in range(11)]
        return np.stack(chips), file["descriptors"]


@cache
def embedder():
    return load_embedder("dlib")


def transformed(picture: Image.Image) -> list[np.ndarray]:
    """The picture, and ten similarity transforms of it around the face: those of the reference."""
    rng = np.random.default_rng(0)
    found = [np.asarray(picture)]
    for _ in range(10):
        angle, scale, (x, y) = math.radians(rng.uniform(-25, 25)), rng.uniform(0.7, 1.4), (224, 110)
        dx, dy = rng.uniform(-20, 20, 2)
        c, s = math.cos(angle) / scale, math.sin(angle) / scale
        matrix = (c, s, x - c * (x + dx) - s * (y + dy), -s, c, y + s * (x + dx) - c * (y + dy))
        moved = picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
        found.append(np.asarray(moved))
    return found


def test_descriptors_are_dlibs(reference):
    chips, descriptors = reference
    assert_parity("dlib", "descriptors", embed(embedder(), chips), descriptors)


def test_a_descriptor_does_not_depend_on_the_other_faces(reference):
    """Bit for bit on CPUs, however many there are."""
    chips, _ = reference
    whole = embed(embedder(), chips[:3], batch_size=2)
    for k in range(3):
        np.testing.assert_array_equal(embed(embedder(), chips[k : k + 1], batch_size=7)[0], whole[k])


@pytest.mark.slow
def test_faces_are_cut_out_as_dlib_does(reference):
    _, descriptors = reference
    pictures = transformed(Image.fromarray(photographs.astronaut()))
    found, there = face_embeddings(embedder(), load_detector(), pictures)
    assert there.all()
    # Two pictures of one person are up to 0.6 apart; dlib's alignment also sees the nose.
    assert np.linalg.norm(found - descriptors, axis=1).max() < 0.2
    assert identity_similarity(found, descriptors).min() > 0.99


def test_a_picture_without_a_face_is_told():
    grey = np.full((1, 64, 64, 3), 128, np.uint8)
    found = compare_identities(embedder(), load_detector(), grey, grey)
    assert np.isnan(found.similarity).all() and len(found.failures) == 1


def test_sums_of_branches_of_two_sizes():
    a, b = np.ones((1, 2, 3, 1), np.float32), np.full((1, 3, 2, 2), 10, np.float32)
    total = np.asarray(dlib_resnet.padded_sum(a, b))
    assert total.shape == (1, 3, 3, 2)
    np.testing.assert_array_equal(total[0, :, :, 0], [[11, 11, 1], [11, 11, 1], [10, 10, 0]])
    np.testing.assert_array_equal(total[0, :, :, 1], [[10, 10, 0]] * 3)


@pytest.fixture(scope="module")
def arrays():
    return other_weights()


def test_its_file_is_read(arrays, tmp_path):
    path = tmp_path / "renamed.bin"
    path.write_bytes(written(arrays))
    checkpoint = convert_weights.read(path)
    part = checkpoint.parts["dlib_resnet"]
    assert part.arrays.keys() == arrays.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(part.arrays[name], value)
    params = load_embedder(path).params
    jax.tree.map(
        lambda leaf, shape: np.testing.assert_equal(leaf.shape, shape.shape), params, dlib_resnet.param_shapes()
    )
    assert sum(a.size for a in flat(params).values()) == 5_614_592


def test_other_and_damaged_files_are_refused(arrays):
    data = written(arrays)
    with pytest.raises(ConversionError, match="bytes behind the network"):
        dlib_file.face_network(memoryview(data + b"x"))
    for end in (20, 200, 5000, len(data) - 1):
        with pytest.raises(ConversionError):
            dlib_file.face_network(memoryview(data[:end]))
    for old, new in (
        (b"input_rgb", b"input_abc"),
        (b"relu_", b"elu__"),
        (whole(2) + b"\x01\x03", whole(9) + b"\x01\x03"),
    ):
        with pytest.raises(ConversionError):
            dlib_file.face_network(memoryview(data.replace(old, new, 1)))
    huge = data.replace(
        tensor(np.zeros(0), (0,) * 4), struct.pack("<BB", 1, 2) + (b"\x08" + b"\xff" * 7 + b"\x7f") * 4, 1
    )
    with pytest.raises(ConversionError, match="ends in the middle"):
        dlib_file.face_network(memoryview(huge))
    nan = {**arrays, "layer0.conv.weight": np.full_like(arrays["layer0.conv.weight"], np.nan)}
    with pytest.raises(ConversionError, match="has numbers in layer 0 .con_4. that are not finite"):
        dlib_file.face_network(memoryview(written(nan)))
    for shape in ((3, 32, 7, 7), (-32, -3, 7, 7)):
        with pytest.raises(ConversionError, match="has filters of shape"):
            dlib_file.face_network(memoryview(data.replace(alias(32, 3, 7, 7), alias(*shape), 1)))
    with pytest.raises(ConversionError, match=r"less a mean of \[nan"):
        exponent = real(dlib_resnet.MEAN[0])
        dlib_file.face_network(memoryview(data.replace(exponent, whole(1) + whole(2**40), 1)))


def test_flipped_bits_are_refused_or_change_numbers_only(arrays):
    data = bytearray(written(arrays))
    ends = [0, 400, *range(20_000, len(data), len(data) // 40)]
    for at in ends:
        for place in (at, at + 1):
            data[place] ^= 0x10
            try:
                found = dlib_file.face_network(memoryview(bytes(data))).parts["dlib_resnet"].arrays
                assert {name: a.shape for name, a in found.items()} == {name: a.shape for name, a in arrays.items()}
            except ConversionError:
                pass
            data[place] ^= 0x10
