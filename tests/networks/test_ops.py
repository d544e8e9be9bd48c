"""Resampling, bias_act and modulated convolution against the original operators, and their algebra."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parity import assert_parity, nhwc

from lsap_jax.networks import resample
from lsap_jax.networks.convolution import conv2d, strided_conv2d
from lsap_jax.networks.layers import bias_act, modulated_conv2d

pytestmark = pytest.mark.usefixtures("quick_compilation")


def compiled(function, *arrays, **static):
    """function(*arrays, **static) as one program: op by op, jax would compile every slice and every sum by itself."""
    return jax.jit(partial(function, **static))(*arrays)


def cases(file: dict) -> list[dict]:
    return json.loads(bytes(file["meta_json"]))


def padding(value) -> tuple[int, int, int, int]:
    if isinstance(value, int):
        return (value,) * 4
    return tuple(value) if len(value) == 4 else (value[0], value[0], value[1], value[1])


def hwio(w: np.ndarray) -> np.ndarray:
    return w.transpose(2, 3, 1, 0)


def test_resample_goldens(golden):
    file = golden("nv_ops_resample")
    for i, case in enumerate(cases(file)):
        options = {k: v for k, v in case.items() if k not in ("op", "x", "f", "w")}
        x = jnp.asarray(nhwc(file[case["x"]]))
        f = file[case["f"]] if case.get("f") else np.ones((1, 1))
        for key in ("up", "down", "padding"):
            if isinstance(options.get(key), list):
                options[key] = tuple(options[key])
        if case["op"] == "upfirdn2d":
            y = compiled(resample.upfirdn2d, x, f=f, **{**options, "padding": padding(options["padding"])})
        elif case["op"] == "conv2d_resample":
            y = compiled(resample.conv2d_resample, x, jnp.asarray(hwio(file[case["w"]])), f=f, **options)
        elif "padding" in options:  # the named resamplers with extra padding are upfirdn2d with the sum of both
            y = with_extra_padding(case["op"], x, f, dict(options))
        else:
            y = compiled(getattr(resample, case["op"]), x, f=f, **options)
        assert_parity("nv_ops_resample", f"{i} {case['op']}", y, nhwc(file[f"y{i:03d}"]))


def with_extra_padding(op: str, x, f, options: dict):
    extra = padding(options.pop("padding"))
    fw, fh = resample.filter_size(f)
    up, down = options.pop("up", 1), options.pop("down", 1)
    own = {
        "upsample2d": ((fw + up - 1) // 2, (fw - up) // 2, (fh + up - 1) // 2, (fh - up) // 2),
        "downsample2d": ((fw - down + 1) // 2, (fw - down) // 2, (fh - down + 1) // 2, (fh - down) // 2),
        "filter2d": (fw // 2, (fw - 1) // 2, fh // 2, (fh - 1) // 2),
    }[op]
    gain = options.pop("gain", 1) * up * up
    total = tuple(a + b for a, b in zip(own, extra, strict=True))
    return compiled(resample.upfirdn2d, x, f=f, up=up, down=down, padding=total, gain=gain, **options)


def test_bias_act_goldens(golden):
    file = golden("nv_ops_bias_act")
    x = jnp.asarray(nhwc(file["x"]))
    for i, case in enumerate(cases(file)):
        bias = jnp.asarray(file["b"]) if case.pop("bias") else None
        assert_parity("nv_ops_bias_act", str(case), compiled(bias_act, x, bias, **case), nhwc(file[f"y{i:03d}"]))


def test_modulated_conv_goldens(golden):
    file = golden("nv_ops_modconv")
    x, styles = jnp.asarray(nhwc(file["x"])), jnp.asarray(file["styles"])
    for i, case in enumerate(cases(file)):
        noise = None
        if case["noise"]:
            n = jnp.asarray(file[case["noise"]])
            noise = n[None, :, :, None] if n.ndim == 2 else jnp.moveaxis(n, 1, -1)
        y = compiled(
            lambda x, weight, styles, noise=noise, **static: modulated_conv2d(x, weight, styles, noise=noise, **static),
            x,
            jnp.asarray(hwio(file[case["weight"]])),
            styles,
            up=case["up"],
            down=case["down"],
            padding=case["padding"],
            resample_filter=file[case["filter"]] if case["filter"] else None,
            demodulate=case["demodulate"],
            flip_weight=case["flip_weight"],
        )
        assert_parity("nv_ops_modconv", str(case), y, nhwc(file[f"y{i:03d}"]))


def plain_upfirdn(x: np.ndarray, f: np.ndarray, up: int, down: int, pad) -> np.ndarray:
    """The definition, in loops: stuff, pad or crop, convolve, keep every down-th."""
    b, h, w, c = x.shape
    stuffed = np.zeros((b, h * up, w * up, c))
    stuffed[:, ::up, ::up] = x
    x0, x1, y0, y1 = pad
    stuffed = np.pad(stuffed, ((0, 0), (max(y0, 0), max(y1, 0)), (max(x0, 0), max(x1, 0)), (0, 0)))
    stuffed = stuffed[:, max(-y0, 0) : stuffed.shape[1] - max(-y1, 0), max(-x0, 0) : stuffed.shape[2] - max(-x1, 0)]
    fh, fw = f.shape
    rows, columns = stuffed.shape[1] - fh + 1, stuffed.shape[2] - fw + 1
    out = np.zeros((b, rows, columns, c))
    for i in range(fh):
        for j in range(fw):
            out += f[fh - 1 - i, fw - 1 - j] * stuffed[:, i : i + rows, j : j + columns]
    return out[:, ::down, ::down]


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.tuples(*[st.integers(-1, 4)] * 4),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 100),
)
def test_upfirdn_is_its_definition(up, down, pad, fh, fw, seed):
    r = np.random.default_rng(seed)
    x, f = r.standard_normal((1, 5, 6, 2)), r.standard_normal((fh, fw))
    reference = plain_upfirdn(x, f, up, down, pad)
    found = compiled(resample.upfirdn2d, jnp.asarray(x, jnp.float32), f=f, up=up, down=down, padding=pad)
    np.testing.assert_allclose(found, reference, atol=2e-5)


def test_a_filter_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        resample.upfirdn2d(jnp.ones((1, 2, 2, 1)), np.ones((5, 5)))
    with pytest.raises(ValueError, match="one or two dimensions"):
        resample.setup_filter(np.ones((2, 2, 2)))


def test_setup_filter_normalises_scales_and_flips():
    np.testing.assert_allclose(resample.setup_filter([1, 3, 3, 1]), [0.125, 0.375, 0.375, 0.125])
    np.testing.assert_allclose(resample.setup_filter([[1, 2], [3, 4]], gain=4, flip=True), [[1.6, 1.2], [0.8, 0.4]])
    assert resample.setup_filter([1, 1], normalize=False).sum() == 2


def test_no_grouped_convolution_in_a_modulated_one():
    def layer(x, w, s):
        return modulated_conv2d(x, w, s, up=2, padding=1, resample_filter=np.array([1, 3, 3, 1]) / 8, flip_weight=False)

    text = jax.jit(layer).lower(jnp.ones((3, 8, 8, 4)), jnp.ones((3, 3, 4, 5)), jnp.ones((3, 4))).as_text()
    assert text.count("stablehlo.convolution") == 1
    assert "feature_group_count = 1" in text and "feature_group_count = 4" not in text


@pytest.mark.parametrize(
    ("height", "width", "kernel", "stride"), [(8, 8, 3, 2), (7, 10, 3, 2), (2, 2, 3, 2), (9, 9, 5, 3)]
)
def test_strided_convolution_by_windows(height, width, kernel, stride):
    """Values and gradients are those of `conv2d`."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, height, width, 3), np.float32)
    w = rng.standard_normal((kernel, kernel, 3, 5), np.float32)

    @partial(jax.jit, static_argnums=0)
    def both(convolution):
        y, back = jax.vjp(lambda x, w: convolution(x, w, stride, kernel // 2), jnp.asarray(x), jnp.asarray(w))
        return y, *back(jnp.cos(y))

    for found, expected in zip(both(strided_conv2d), both(conv2d), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
