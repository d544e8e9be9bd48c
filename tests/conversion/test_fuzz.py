"""Damage at any place: the very same arrays come out, or a ConversionError; never another exception, never wrong
weights. A discriminator that damage made unfit may be left out, with a note.

What can be promised differs by container. A zip (torch, npz) has a CRC per member, so every flipped bit of a weight is
found. A plain pickle and a legacy torch file have none: a flip inside the raw values changes that one value and
nothing in the file tells (unless it becomes non-finite). Recording the SHA-256 of the source is what is left, and
what we do. Everything outside the raw values is structure, and damage there is always noticed or without effect.
"""

import io

import foreign_dialects as dialects
import foreign_encoders as encoders
import foreign_files as files
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import convert_weights
from convert_weights import ConversionError

G = dialects.random_generator((3, 2), 3, 3, 2)
D = dialects.random_discriminator((3, 2))


def _snapshot():
    facts = files.generator_facts(clamp=256)
    g, other = (files.nvlabs(w, "Generator", facts) for w in (G, {n: a + 1 for n, a in G.items()}))
    return {"G": other, "D": files.nvlabs_discriminator(D), "G_ema": g}


def _rosinality():
    g = {
        "g_ema": dialects.state_dict(dialects.rosinality(G)),
        "d": dialects.state_dict(dialects.rosinality_discriminator(D)),
    }
    return g | {
        "g": dialects.state_dict({n: a + 1 for n, a in dialects.rosinality(G).items()}),
        "latent_avg": files.T(G["mapping.w_avg"]),
    }


def _tensorflow():
    g, other = dialects.tensorflow_generator(G), dialects.tensorflow_generator({n: a + 1 for n, a in G.items()})
    return files.plain((other, dialects.tensorflow_discriminator(D), g), 3)


SOURCES = {
    "nvlabs protocol 4": files.plain(_snapshot(), 4),
    "nvlabs protocol 3": files.plain(_snapshot(), 3),
    "tensorflow": _tensorflow(),
    "legacy": files.torch_legacy(_rosinality()),
    "zip": files.torch_zip(_rosinality()),
    "npz": files.npz({f"G_ema/{n}": a for n, a in G.items()} | {f"D/{n}": a for n, a in D.items()}),
    "encoder": files.torch_zip(encoders.psp_file(encoders.encoder())),
}
CHECKSUMMED = ("zip", "npz", "encoder")


def _npy():
    out = io.BytesIO()
    np.save(out, np.random.RandomState(0).standard_normal((3, 5)).astype(np.float32))
    return out.getvalue()


def _pickled_npy():
    out = io.BytesIO()
    rng = np.random.RandomState(0)
    codes = {"a.png": [rng.standard_normal((2, 3)).astype(np.float32) for _ in range(2)]}
    np.save(out, np.array(codes, object), allow_pickle=True)
    return out.getvalue()


SOURCES["npy"] = _npy()
SOURCES["pickled npy"] = _pickled_npy()


def _arrays(path):
    """The arrays, and whether a discriminator that does not fit was left out with a note."""
    checkpoint = convert_weights.read(path)
    if checkpoint.refused:
        raise ConversionError(next(iter(checkpoint.refused.values())))
    found = {f"{part.kind}/{name}": a for part in checkpoint.parts.values() for name, a in part.arrays.items()}
    return found, any("not used" in note for note in checkpoint.notes)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "weights"


@pytest.fixture(scope="module")
def intact(place):
    result = {}
    for name, data in SOURCES.items():
        place.write_bytes(data)
        result[name] = _arrays(place)[0]
    return result


def _layouts(array):
    """A weight's bytes in every layout that the writers use."""
    views = [array, array.T]
    if array.ndim == 4:
        hwio = array.transpose(2, 3, 1, 0)
        views += [hwio, hwio[::-1, ::-1], array[:, :, ::-1, ::-1]]
    return {(view - np.float32(shift)).astype(np.float32).tobytes() for view in views for shift in (0, 1)}


def _in_raw_values(data, arrays, at):
    """Whether byte `at` belongs to the values of a weight."""
    for raw in set().union(*map(_layouts, arrays.values())):
        start = data.find(raw)
        while start >= 0:
            if start <= at < start + len(raw):
                return True
            start = data.find(raw, start + 1)
    return False


def _check(name, damaged, place, intact, at=None):
    place.write_bytes(damaged)
    try:
        arrays, without = _arrays(place)
    except ConversionError as error:
        assert "\n" not in str(error)
        return
    expected = intact[name]
    if without and not any(n.startswith("discriminator/") for n in arrays):  # it is not needed, and never used damaged
        expected = {n: a for n, a in expected.items() if not n.startswith("discriminator/")}
    different = [n for n in expected if n not in arrays or not np.array_equal(arrays[n], expected[n])]
    if different and at is not None and name not in CHECKSUMMED and _in_raw_values(SOURCES[name], expected, at):
        assert len(different) == 1 and np.sum(arrays[different[0]] != expected[different[0]]) == 1
        return
    assert not different and arrays.keys() == expected.keys(), (at, different)


FUZZ = settings(max_examples=70, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", SOURCES)
@FUZZ
@given(data=st.data())
def test_a_flipped_bit(name, data, place, intact):
    source = SOURCES[name]
    at = data.draw(st.integers(0, len(source) - 1))
    damaged = bytearray(source)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    _check(name, bytes(damaged), place, intact, at)


@pytest.mark.parametrize("name", SOURCES)
@settings(FUZZ, max_examples=40)
@given(data=st.data())
def test_truncation_is_always_noticed(name, data, place, intact):
    source = SOURCES[name]
    place.write_bytes(source[: data.draw(st.integers(0, len(source) - 1))])
    with pytest.raises(ConversionError):
        convert_weights.read(place)


@pytest.mark.parametrize("name", SOURCES)
@settings(FUZZ, max_examples=40)
@given(data=st.data())
def test_inserted_and_overwritten_bytes(name, data, place, intact):
    source = SOURCES[name]
    at = data.draw(st.integers(0, len(source)))
    junk = data.draw(st.binary(min_size=1, max_size=12))
    _check(name, source[:at] + junk + source[at:], place, intact)


@FUZZ
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x80\x02", b"\x80\x04", b"PK\x03\x04", b"\x93NUMPY\x01\x00"]))
def test_noise_is_never_more_than_a_conversion_error(place, junk, start):
    place.write_bytes(start + junk)
    with pytest.raises(ConversionError):
        convert_weights.read(place)
