"""Faces chosen and aligned; `lsap-jax align`, and `invert --align`."""

import json
import os
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lsap_jax.cli import guarded, main
from lsap_jax.data import ImageError, from_arrays
from lsap_jax.data.source import Cut
from lsap_jax.errors import LsapError
from lsap_jax.faces.align import align, crop_quad, cut_out, quad_side
from lsap_jax.faces.aligned_folder import Folder
from lsap_jax.faces.aligner import aligner
from lsap_jax.faces.choose import FaceError, choose_face, nose_inside, outside, remarks, roll
from lsap_jax.faces.detect import Faces, detect, load_detector, nobody
from lsap_jax.faces.upright import LOOK, Meant, Small, find_meant, turned_back
from lsap_jax.storage.atomic import lock_folder, read_records, sha256
from lsap_jax.storage.results import read_failures, read_manifest, read_run
from lsap_jax.testing import tiny_generator

FRONTAL = np.array([[80.0, 100], [120, 100], [100, 122], [84, 145], [116, 145]]) + 0.5
SIZE = (256, 256)


@pytest.fixture(scope="module")
def detector():
    return load_detector()


@pytest.fixture(scope="module")
def close():
    """256 px of skimage's astronaut, around the face."""
    return np.ascontiguousarray(pytest.importorskip("skimage").data.astronaut()[:256, 96:352])


def faces_of(*landmarks, scores=None):
    """Faces with boxes of the usual size around these landmarks."""
    landmarks = np.array(landmarks, np.float32).reshape(-1, 5, 2)
    sides = np.array([2 * np.hypot(*(a[1] - a[0])) for a in landmarks]).reshape(-1, 1)
    centres = landmarks.mean(axis=1)
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(np.float32)
    return Faces(boxes, np.full(len(boxes), 0.99, np.float32) if scores is None else np.array(scores), landmarks)


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


# The square


def test_the_square_follows_the_formula_of_ffhq():
    # Eyes 40 px apart, the mouth 45 px below them: half a side is max(2.0 * 40, 1.8 * 45) = 81.
    quad = crop_quad(FRONTAL)
    centre = np.array([100, 100 + 0.1 * 45])
    np.testing.assert_allclose(quad, centre + 81 * np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]))
    np.testing.assert_allclose(quad_side(quad), 162)
    narrow = FRONTAL.copy()
    narrow[3:, 1] -= 20  # the eyes decide now
    np.testing.assert_allclose(quad_side(crop_quad(narrow)), 160)


@given(st.floats(-180, 180), st.floats(0.1, 10), st.floats(-500, 500), st.floats(-500, 500))
def test_the_square_moves_with_the_face(angle, scale, x, y):
    turn = similarity(angle, scale, (x, y))
    edges = FRONTAL - 0.5 + np.random.RandomState(0).randn(5, 2)
    np.testing.assert_allclose(crop_quad(turn(edges) + 0.5), turn(crop_quad(edges + 0.5)), atol=1e-8 * (1000 + scale))


@pytest.mark.parametrize("bad", [FRONTAL[:4], np.full((5, 2), np.nan), np.zeros((5, 2))])
def test_landmarks_without_a_direction_are_refused(bad):
    with pytest.raises(ValueError, match="landmarks"):
        crop_quad(bad)


# Pixels


def similarity(angle, scale, shift, centre=(0.0, 0.0)):
    """Turns by degrees around a centre, scales, and shifts points [..., 2]."""
    a = np.radians(angle)
    matrix = scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return lambda points: (points - np.array(centre)) @ matrix.T + np.array(centre) + np.array(shift)


def moved(image, forward):
    """The picture under a similarity, bicubic, on a canvas of its own size."""
    corners = forward(np.array([[0.0, 0], [1, 0], [0, 1]]))
    matrix = np.linalg.inv(np.stack([corners[1] - corners[0], corners[2] - corners[0]], axis=1))
    data = np.concatenate([matrix, (-matrix @ corners[0])[:, None]], axis=1).ravel()
    picture = Image.fromarray(image)
    return np.asarray(
        picture.transform(picture.size, Image.Transform.AFFINE, tuple(data), Image.Resampling.BICUBIC, fillcolor="grey")
    )


TRANSFORMS = [
    (-40, 1.0, (0, 0)), (-30, 1.1, (6, -3)), (-20, 0.9, (-8.5, 4)), (-10, 1.2, (3, 10)), (0, 0.75, (20, 20)),
    (0, 1.25, (-10.3, 5.7)), (0, 1.0, (13.25, -7.5)), (10, 0.8, (-20, 12)), (20, 1.15, (4, 0)), (30, 0.9, (0, 15)),
    (40, 1.0, (5, 5)), (40, 0.85, (-15, 20)),
]  # fmt: skip


def test_alignment_undoes_twelve_similarity_transforms(detector, close):
    (face,) = detect(detector, [close])
    edges = face.landmarks[0] - 0.5
    centre = edges.mean(axis=0)
    forwards = [similarity(angle, scale, shift, centre) for angle, scale, shift in TRANSFORMS]
    pictures = [moved(close, forward) for forward in forwards]
    found = detect(detector, pictures)
    resolution = 128
    upright = align(close, face.landmarks[0], resolution)
    pixel = resolution / quad_side(crop_quad(face.landmarks[0]))  # of the aligned picture
    # Its middle: what the moved picture lost beyond its edges is not to be compared.
    middle = np.s_[resolution // 6 : -resolution // 6, resolution // 6 : -resolution // 6]
    errors, found_psnr, known_psnr = [], [], []
    for (angle, scale, _), forward, picture, faces in zip(TRANSFORMS, forwards, pictures, found, strict=True):
        assert choose_face(faces, SIZE, resolution) == 0
        assert abs(roll(faces.landmarks[0]) - roll(face.landmarks[0]) - angle) < 8
        # With landmarks that are known, all but the resampling is undone.
        known = align(picture, forward(edges) + 0.5, resolution)
        known_psnr.append(psnr(known[middle], upright[middle]))
        assert known_psnr[-1] > 38, (angle, scale)
        error = np.hypot(*(faces.landmarks[0] - 0.5 - forward(edges)).T).mean() / scale * pixel
        errors.append(error)
        found_psnr.append(psnr(align(picture, faces.landmarks[0], resolution)[middle], upright[middle]))
    print(
        f"landmarks off by {np.mean(errors):.2f} px of {resolution} on average, {max(errors):.2f} at most; PSNR "
        f"{np.mean(found_psnr):.1f} dB, {min(found_psnr):.1f} at least; with known landmarks {np.mean(known_psnr):.1f}"
    )
    assert max(errors) < 3 and np.mean(errors) < 1.6  # px of 128
    assert min(found_psnr) > 17 and np.mean(found_psnr) > 21


def test_a_crop_inside_keeps_its_pixels():
    image = np.random.RandomState(0).randint(0, 256, (9, 9, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(image).resize(SIZE, Image.Resampling.BICUBIC))
    landmarks = FRONTAL + np.array([28.0, 23.5])  # centre (128, 128), half a side 81
    found = align(smooth, landmarks, 162)
    np.testing.assert_allclose(found[5:-5, 5:-5], smooth[47:209, 47:209][5:-5, 5:-5], atol=4)
    np.testing.assert_array_equal(align(Image.fromarray(smooth), landmarks, 162), found)
    small = align(smooth, landmarks, 20)  # scaled down on the way, by 4
    whole = np.asarray(Image.fromarray(smooth[47:209, 47:209]).resize((20, 20), Image.Resampling.LANCZOS))
    assert psnr(small, whole) > 30
    grey = align(Image.fromarray(smooth).convert("L"), landmarks, 20)
    assert grey.shape == (20, 20, 3) and (grey[..., :1] == grey).all()


def test_beyond_the_edge_a_picture_goes_on_and_fades():
    stripes = np.zeros((100, 100, 3), np.uint8)
    stripes[:, ::2] = 200
    landmarks = (FRONTAL - FRONTAL[2]) * 0.75 + np.array([50, 45])  # the square reaches 11 px beyond, and more below
    found = align(stripes, landmarks, 121).astype(float)
    assert np.isfinite(found).all()
    contrast = np.abs(np.diff(found[..., 0], axis=1))
    assert contrast[60, 50:70].mean() > 30  # inside
    assert contrast[60, :3].mean() < contrast[60, 50:70].mean() / 4  # blurred at the edge
    assert found[60, :3].mean() > 40  # and not black
    flat = np.full((60, 80, 3), 77, np.uint8)
    assert np.abs(align(flat, FRONTAL - 40, 32).astype(int) - 77).max() <= 1
    far = align(flat, FRONTAL + 1000, 16)  # nothing of it is there
    assert far.shape == (16, 16, 3)


# Which face


def test_the_clearly_largest_face_is_chosen():
    small, middle = FRONTAL * 0.3, FRONTAL * 0.6 + np.array([150, 100])
    assert choose_face(faces_of(FRONTAL), SIZE, 256) == 0
    assert choose_face(faces_of(FRONTAL, small), SIZE, 256) == 0
    with pytest.raises(FaceError, match=r"2 faces found, the second 0\.60 times.*--face=largest"):
        choose_face(faces_of(FRONTAL, middle), SIZE, 256)
    assert choose_face(faces_of(FRONTAL, middle), SIZE, 256, face="largest") == 0
    with pytest.raises(FaceError, match=r"2 faces found, the second 0\.30 times"):
        choose_face(faces_of(FRONTAL, small), SIZE, 256, face="only")
    # What is hardly a face is neither chosen nor in the way.
    assert choose_face(faces_of(middle, FRONTAL, scores=[0.75, 0.95]), SIZE, 256) == 1
    assert choose_face(faces_of(FRONTAL, middle, scores=[0.99, 0.8]), SIZE, 256, face="only") == 0
    assert remarks(faces_of(FRONTAL, small), 0, SIZE, 128) == ["the largest of 2 faces"]


def test_faces_that_are_not_fit_are_refused_with_the_reason():
    profile = FRONTAL.copy()
    profile[2, 0] = 70
    for faces, options, message in (
        (faces_of(), {}, "no face found$"),
        (faces_of(FRONTAL, scores=[0.72]), {}, r"no face found; the best guess has a score of 0\.72"),
        (faces_of(FRONTAL * 0.2), {}, r"too small: its eyes are 8 px apart, its crop of 32 px .* 7\.9 times"),
        (faces_of(FRONTAL), {"enlarge": 1.5}, r"1\.6 times, at most 1\.5"),
        (faces_of(FRONTAL - np.array([90, 0])), {}, "cut off"),
        (faces_of(FRONTAL + np.array([0, 120])), {}, "cut off"),
        (faces_of(profile), {}, "from the side.*--profiles"),
    ):
        with pytest.raises(FaceError, match=message):
            choose_face(faces, SIZE, 256, **options)
    assert choose_face(faces_of(profile), SIZE, 256, profiles=True) == 0
    assert "seen from the side" in remarks(faces_of(profile), 0, SIZE, 64)
    for options in ({"face": "second"}, {"enlarge": 0.0}, {"enlarge": float("nan")}, {"enlarge": float("inf")}):
        with pytest.raises(LsapError, match=next(iter(options))):
            choose_face(faces_of(FRONTAL), SIZE, 256, **options)


@pytest.mark.parametrize("angle", [-170, -90, -30, 0, 44, 46, 135])
def test_turned_faces_are_remarked(angle):
    landmarks = similarity(angle, 1.0, (28, 10), (100, 120))(FRONTAL)
    assert nose_inside(landmarks) and round(roll(landmarks)) == angle
    expected = [f"turned by {angle} degrees in the plane"] if abs(angle) > 45 else []
    assert remarks(faces_of(landmarks), 0, (999, 999), 100)[:1] == expected


def test_what_is_made_up_is_remarked():
    quad = np.array([[-10.0, 0], [-10, 40], [30, 40], [30, 0]])
    assert outside(quad, (100, 100)) == pytest.approx(0.25, abs=0.02)
    assert outside(quad + 20, (100, 100)) == 0
    notes = remarks(faces_of(FRONTAL - np.array([80, 0])), 0, SIZE, 324)
    assert notes == ["38 % of the crop lies outside of the picture and is made up", "enlarged 2.0 times"]


# Faces that do not stand upright


def small(image):
    return Small(image, (image.shape[1], image.shape[0]))


@given(st.integers(0, 3), st.integers(1, 9), st.integers(1, 9), st.data())
def test_faces_of_a_turned_picture_are_turned_back(quarters, width, height, data):
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    image = np.zeros((height, width), np.uint8)
    image[y, x] = 1
    ((v, u),) = np.argwhere(np.rot90(image, quarters))
    pixel = Faces(*(np.array(a, np.float32)[None] for a in ([u + 1, v + 1, u + 1, v + 1], 0.9, [[u + 1, v + 1]] * 5)))
    found = turned_back(pixel, quarters, width, height)
    assert found.boxes.tolist() == [[x + 1, y + 1, x + 1, y + 1]]
    assert found.landmarks.tolist() == [[[x + 1, y + 1]] * 5]


def test_a_face_on_its_side_is_found_as_it_lies(detector, close):
    (face,) = detect(detector, [close])
    edges = face.landmarks[0] - 0.5
    side = quad_side(crop_quad(face.landmarks[0]))
    angles = [0, 60, 90, 180, -90]
    forwards = [similarity(angle, 1.0, (0, 0), (128, 128)) for angle in angles]
    pictures = [moved(close, forward) for forward in forwards]
    # At the first look, a face on its side seems to stand almost upright.
    assert abs(roll(detect(detector, [pictures[2]])[0].landmarks[0])) < 45
    found = find_meant(detector, [small(close), *map(small, pictures)], 128)
    np.testing.assert_array_equal(found[0].faces.landmarks, face.landmarks)  # nothing else than without a second look
    for angle, forward, meant in zip(angles, forwards, found[1:], strict=True):
        off = np.abs(crop_quad(meant.faces.landmarks[meant.chosen]) - crop_quad(forward(edges) + 0.5)).max()
        assert off < 0.08 * side, angle
    assert "turned by 9" in remarks(*found[3], SIZE, 128)[0]


def test_what_is_not_found_again_is_not_taken(monkeypatch):
    profile = FRONTAL.copy()
    profile[2, 0] = 70
    ideal = faces_of((FRONTAL - 0.5 - (19, 23.5)) * (LOOK / 162) + 0.5)  # as the crop of FRONTAL shows it
    nowhere, askew = nobody(), faces_of(FRONTAL)
    one = small(np.zeros((256, 256, 3), np.uint8))

    def found(*answers, picture=one, **options):
        """Landmarks, or the reason, by the detector's answers to both looks, and to both at the turned pictures."""
        rest = iter(answers)
        monkeypatch.setattr("lsap_jax.faces.upright.detect_small", lambda _, images, *__: [next(rest) for _ in images])
        (meant,) = find_meant(None, [picture], 128, **options)
        assert next(rest, None) is None
        return str(meant) if isinstance(meant, FaceError) else meant.faces.landmarks[meant.chosen].tolist()

    face = faces_of(FRONTAL)
    assert found(face, ideal) == FRONTAL.tolist()
    assert "lies on its side or upside down" in found(face, nowhere, nowhere, nowhere, nowhere)
    assert "lies on its side or upside down" in found(face, askew, face, nowhere, nowhere, askew)
    doubtful = faces_of(ideal.landmarks[0] + (0.2 * LOOK, 0))
    assert found(face, doubtful, nowhere, face, nowhere, askew) == FRONTAL.tolist()
    turned = turned_back(face, 3, 256, 256).landmarks[0].tolist()
    assert found(nowhere, nowhere, nowhere, face, ideal) == turned
    assert found(face, doubtful, face, face, face, nowhere, askew, ideal) == turned
    assert "2 faces" in found(faces_of(FRONTAL, FRONTAL * 0.7))  # which is meant does not depend on how they lie
    aside = faces_of(profile)
    assert "from the side" in found(aside, nowhere, nowhere, nowhere)
    assert found(aside, nowhere, nowhere, nowhere, nowhere, profiles=True) == profile.tolist()
    assert "have no direction" in found(faces_of(np.full((5, 2), 9.0)), nowhere, nowhere, nowhere)
    none = [nowhere] * 4
    assert found(*none) == "no face found"
    tiny = small(np.zeros((8, 30, 3), np.uint8))
    assert "only 30 x 8 px, faces of 20 px and more" in found(*none, picture=tiny)
    huge = Small(one.levels, (5120, 5120))
    assert "searched at 256 x 256 px, where faces of less than 600 px" in found(*none, picture=huge, min_face=30.0)


# Commands


@pytest.fixture
def pictures(tmp_path, close):
    """A folder of a face, the same turned in a folder of its own, two faces, none, and a broken file."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(close).save(folder / "face.png")
    Image.fromarray(moved(close, similarity(20, 0.9, (0, 10), (128, 120)))).convert("L").save(
        folder / "sub" / "grey.png"
    )
    two = Image.fromarray(close).resize((128, 128))
    twice = Image.new("RGB", (256, 128))
    twice.paste(two, (0, 0))
    twice.paste(two, (128, 0))
    twice.save(folder / "two.png")
    Image.new("RGB", (100, 80), "navy").save(folder / "none.png")
    (folder / "broken.png").write_bytes(b"\x89PNG nothing")
    return folder


def aligned(*argv):
    return guarded("lsap-jax align", "align", [str(a) for a in argv])


def read_png(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_align_writes_pictures_and_reasons(tmp_path, pictures, close, detector, capsys):
    out = tmp_path / "out"
    options = (pictures, "--out", out, "--resolution=64")
    assert aligned(*options) == 1
    captured = capsys.readouterr()
    assert f"2 pictures aligned in {out}, 3 failed" in captured.out
    assert "2 faces found" in captured.err and "5/5" not in captured.err
    done = {r["id"]: r for r in read_records(out / "alignment.jsonl")}
    failed = {r["id"]: r["reason"] for r in read_records(out / "failures.jsonl")}
    assert set(done) == {"face", "sub/grey"}
    assert failed["none"] == "no face found" and "2 faces" in failed["two"] and "readable format" in failed["broken"]
    record = done["face"]
    assert record["input"] == str(pictures / "face.png") and record["score"] > 0.99 and record["notes"] == []
    np.testing.assert_allclose(crop_quad(record["landmarks"]), record["quad"], atol=0.02)
    picture = read_png(out / "face.png")
    assert picture.shape == (64, 64, 3)
    assert psnr(picture, align(close, np.array(record["landmarks"]), 64)) > 40
    np.testing.assert_allclose(roll(np.array(done["sub/grey"]["landmarks"])), 20, atol=8)

    # Again: what is done stays as it is; what was taken away, or failed for a reason that is gone, is done anew.
    before = (out / "sub" / "grey.png").stat().st_mtime_ns
    (out / "face.png").unlink()
    Image.fromarray(close[:, ::-1]).save(pictures / "none.png")
    assert aligned(*options) == 1
    assert f"3 pictures aligned in {out}, 1 of them earlier, 2 failed" in capsys.readouterr().out
    assert (out / "sub" / "grey.png").stat().st_mtime_ns == before
    np.testing.assert_array_equal(read_png(out / "face.png"), picture)
    assert {r["id"] for r in read_records(out / "failures.jsonl")} == {"two", "broken"}
    assert [r["id"] for r in read_records(out / "alignment.jsonl")] == ["face", "none", "sub/grey"]

    # Other settings belong into another folder, and a second writer waits.
    assert aligned(*options, "--face=largest") == 2
    assert "face was 'clear', is 'largest'" in capsys.readouterr().err
    locks = lock_folder(out)
    try:
        assert aligned(*options) == 2
    finally:
        for lock in locks:
            os.close(lock)
    assert "another process" in capsys.readouterr().err
    (out / "alignment.json").write_text("[]")
    assert aligned(*options) == 2
    assert "alignment.json: is damaged" in capsys.readouterr().err


def test_align_stops_at_ctrl_c_and_goes_on(tmp_path, pictures, monkeypatch, capsys):
    out = tmp_path / "out"
    options = (pictures / "face.png", pictures / "sub", "--out", out, "--resolution=64")
    write = Folder.write

    def interrupted(self, record, png):
        write(self, record, png)
        raise KeyboardInterrupt

    one = Faces(np.array([[60, 80, 140, 170]]), np.array([0.99]), FRONTAL[None])
    sizes = []

    def find(detector, pictures, *_, **__):
        sizes.append(len(pictures))
        return [Meant(one, 0)] * len(pictures)

    monkeypatch.setattr("lsap_jax.faces.upright.find_meant", find)
    monkeypatch.setattr(Folder, "write", interrupted)
    assert aligned(*options) == 130
    assert "run the same command again" in capsys.readouterr().err
    monkeypatch.setattr(Folder, "write", write)
    assert len(read_records(out / "alignment.jsonl")) == 1
    assert aligned(*options) == 0
    assert f"2 pictures aligned in {out}, 1 of them earlier\n" in capsys.readouterr().out
    assert set(sizes) == {1}, "on a CPU, where larger batches take memory and no less time"


def test_a_picture_whose_input_has_changed_is_aligned_anew(tmp_path, pictures, capsys):
    for name in ("two.png", "none.png", "broken.png"):
        (pictures / name).unlink()
    out = tmp_path / "out"
    argv = ["align", str(pictures), "--out", str(out), "--resolution=64"]
    assert main(argv) == 0
    before = (out / "face.png").read_bytes()
    face = pictures / "face.png"
    Image.open(face).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(face)
    assert main(argv) == 0
    assert "2 pictures aligned" in (printed := capsys.readouterr().out) and ", 1 of them earlier" in printed
    assert (out / "face.png").read_bytes() != before
    face.unlink()
    Image.new("RGB", (9, 9)).save(pictures / "other.png")
    assert main(argv) == 1, "what is gone from the source is left as it is; what is new and no face fails"


def test_results_among_the_pictures_are_not_aligned(tmp_path, pictures, monkeypatch, capsys):
    one = Faces(np.array([[60, 80, 140, 170]]), np.array([0.99]), FRONTAL[None])
    monkeypatch.setattr("lsap_jax.faces.upright.find_meant", lambda _, all, *__, **___: [Meant(one, 0)] * len(all))
    (pictures / "broken.png").unlink()
    out = pictures / "aligned"
    for note in ("", f"4 images in {out} are left out: the results go there\n"):
        assert aligned(pictures, "--out", out, "--resolution=8") == 0
        captured = capsys.readouterr()
        assert "4 pictures aligned" in captured.out and captured.err.startswith(note)
    assert len(read_records(out / "alignment.jsonl")) == 4
    assert aligned(out, "--out", out, "--resolution=8") == 2
    assert "lies in" in (error := capsys.readouterr().err) and error.count("\n") == 1


def test_align_refuses_what_it_cannot_use(tmp_path, pictures, capsys):
    out = tmp_path / "out"
    for argv, message in (
        ((), "no images"),
        ((pictures,), "--out is missing"),
        ((pictures, "--out", pictures), "choose another folder"),
        ((pictures, "--out", pictures / "face.png"), "is a file"),
        ((pictures / "absent", "--out", out), "no such file"),
        ((pictures, "--out", out, "--resolution=0"), "resolution"),
        ((pictures, "--out", out, "--face=second"), "face"),
        ((pictures, "--out", out, "--enlarge=-1"), "enlarge -1"),
        ((pictures, "--out", out, "--min_face=5"), "min_face=5"),
        ((pictures, "--out", out, "--min_face=inf"), "min_face=inf"),
        ((pictures, "--out", out, "--detector", pictures / "face.png"), "face.png"),
        ((pictures, "--out", out, "--config.align=true"), "no configuration"),
    ):
        assert aligned(*argv) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not out.exists()


def test_a_source_aligns_in_its_threads():
    seen = []

    def hook(picture):
        seen.append((threading.current_thread().name, picture.mode))
        if np.asarray(picture).max() == 0:
            raise ImageError("no face found")
        quad = np.array([[0, 0], [0, 4], [4, 4], [4, 0]])
        return Cut(picture=picture.crop((0, 0, 4, 4)), quad=quad, notes=["aligned"])

    images = np.zeros((3, 8, 8, 1), np.uint8)
    images[[0, 2], :4, :4] = 255
    source = replace(from_arrays(images, resolution=4, channels=3), align=hook)
    (_, first), (_, second), (_, third) = source.stream()
    assert (first.image == 255).all() and first.notes == ("aligned",) and third.id == "2"
    assert third.crop == {"input": "array 2", "input_sha256": third.sha256, "quad": [[0, 0], [0, 4], [4, 4], [4, 0]]}
    assert second.reason == "no face found" and str(second) == "array 1: no face found"
    assert all(name.startswith("lsap-load") and mode == "RGB" for name, mode in seen)
    assert source.select([2]).load(0).notes == ("aligned",)
    names = dict(source.stream_pictures(lambda one: (one.picture, threading.current_thread().name)))
    assert names[1][0].size == (8, 8) and names[1][0].mode == "L" and len(seen) == 4
    assert names[2][1].startswith("lsap-load")


def test_the_aligner_of_commands(close):
    hook = aligner(64)
    picture, quad, notes = hook(Image.fromarray(close))
    assert picture.size == (64, 64) and notes == ["aligned to its face"]
    np.testing.assert_array_equal(picture, cut_out(close, quad, 64))
    with pytest.raises(ImageError, match="no face found"):
        hook(Image.new("RGB", (200, 200)))


def fake_aligner(resolution):
    def hook(picture):
        if picture.size == (100, 80):
            raise ImageError("no face found")
        quad = np.array([[1, 2], [1, 42], [41, 42], [41, 2]]) + 0.12345
        cut = Image.fromarray(cut_out(picture, quad, resolution))
        return Cut(picture=cut, quad=quad, notes=["aligned to its face"])

    return hook


@pytest.mark.usefixtures("quick_compilation")
def test_invert_aligns_on_the_way(tmp_path, pictures, monkeypatch, capsys):
    monkeypatch.setattr("lsap_jax.faces.aligner.aligner", fake_aligner)
    tiny_generator(discriminator=False).save(tmp_path / "g.safetensors")
    (pictures / "broken.png").unlink()
    out = tmp_path / "run"
    options = [pictures, "--generator", tmp_path / "g.safetensors", "--out", out, "--space=w", "--steps=1"]
    options = [*map(str, options), "--config.chunk=1", "--batch_size=4"]
    assert main(["invert", *options, "--align"]) == 1
    assert read_run(out)["config"]["align"] is True
    assert read_failures(out)["none"]["reason"] == "no face found"
    manifest = read_manifest(out)
    assert all("aligned to its face" in record["notes"] for record in manifest.values())
    photograph = pictures / "sub" / "grey.png"
    quad = [[1.123, 2.123], [1.123, 42.123], [41.123, 42.123], [41.123, 2.123]]
    known = {"input": str(photograph), "input_sha256": sha256(photograph.read_bytes()), "quad": quad}
    assert manifest["sub/grey"]["crop"] == known
    words = ["edit", out, "--direction=random:0", "--paste-back", out, "--strengths=2", "--out", tmp_path / "edits"]
    assert main([str(word) for word in words]) == 0
    pasted = np.array(Image.open(tmp_path / "edits" / "pasted" / "sub" / "grey" / "random-0" / "2.png"))
    assert pasted.shape == (*SIZE, 3)
    assert main(["invert", *options]) == 2
    assert "config.align was True, is False" in capsys.readouterr().err
    assert json.loads((out / "run.json").read_text())["config"]["fit"] == "crop"
