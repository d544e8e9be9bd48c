"""The picture of a training's log."""

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsap_jax.training.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, picture
from lsap_jax.training.loop import lines, note

SVG = "{http://www.w3.org/2000/svg}"
LOG = [
    {"images": 100, "mse": 0.4, "heldout_mse": 0.5, "stage": 0, "loss": -1.0, "loss_unseen": -0.5},
    {"images": 200, "mse": 0.04, "heldout_mse": 0.2, "stage": 1, "loss": -2.0, "loss_unseen": -1.5},
]


def charts(svg):
    """title -> {class: points [N, 2]} of each chart."""
    found = {}
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        title = next(text.text for text in group.iter(f"{SVG}text") if text.get("class") == "title")
        found[title] = {
            one.get("class"): np.array(re.findall(r"[\d.]+", one.get("d")), float).reshape(-1, 2)
            for one in group.iter(f"{SVG}path")
        }
    return found


def test_a_chart_for_each_number_with_held_out_images_beside():
    found = charts(picture(LOG))
    assert list(found) == ["mse", "stage", "loss"]
    assert found["mse"].keys() == found["loss"].keys() == {"seen", "unseen"} and found["stage"].keys() == {"seen"}
    inside = (HEIGHT - TOP - BOTTOM) / 1.12
    seen, unseen = found["mse"]["seen"], found["mse"]["unseen"]
    np.testing.assert_allclose(seen[:, 0], [LEFT + (WIDTH - LEFT - RIGHT) / 2, WIDTH - RIGHT], atol=0.1)
    drop = (np.log10(0.4) - np.log10(0.04)) / (np.log10(0.5) - np.log10(0.04)) * inside
    assert seen[1, 1] - seen[0, 1] == pytest.approx(drop, abs=0.2), "logarithmic"
    assert unseen[0, 1] < seen[0, 1], "larger values are higher"
    loss = found["loss"]["seen"]
    assert loss[1, 1] - loss[0, 1] == pytest.approx(inside / 1.5, abs=0.2), "linear, as values are negative"


values = st.floats(width=32) | st.just(0.0) | st.just(1e-30)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "heldout_a", "b<&", "c_unseen"]), values), max_size=4))
def test_any_log_is_drawn(log):
    log = [{"images": (k + 1) * 10, **line} for k, line in enumerate(log)]
    svg = picture(log)
    finite = any(np.isfinite(v) for line in log for name, v in line.items() if name != "images")
    assert bool(svg) == finite
    if svg:
        for points in charts(svg).values():
            for line in points.values():
                assert (line[:, 0] <= WIDTH).all() and (line[:, 1] <= HEIGHT).all()


def test_the_picture_follows_the_log(tmp_path):
    for line in LOG:
        note(tmp_path, line, lambda text: None)
        assert (tmp_path / "curves.svg").read_text() == picture(lines(tmp_path))
    assert lines(tmp_path) == [json.loads(json.dumps(line)) for line in LOG]
