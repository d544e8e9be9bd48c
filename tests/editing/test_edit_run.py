"""`lsap-jax edit`: the folder that it leaves, its resume, its shards, its refusals, and its page."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import jax
import killed_edit
import numpy as np
import pytest
from PIL import Image
from small_runs import write_run

from lsap_jax.cli import main
from lsap_jax.editing import edit_run as edit_runs
from lsap_jax.editing import edit_worker as module
from lsap_jax.editing.animation import Animation
from lsap_jax.editing.direction import Direction
from lsap_jax.editing.edit_record import read_edit
from lsap_jax.editing.edit_run import edit_run
from lsap_jax.editing.random import random_direction
from lsap_jax.editing.series import along, file_name, mixed, towards
from lsap_jax.errors import LsapError
from lsap_jax.rendering import render as rendering
from lsap_jax.rendering.render import space_of
from lsap_jax.report.edit_report import _folder, from_worst, write_edit_report
from lsap_jax.report.run_report import write_run_report
from lsap_jax.storage.atomic import LOCK, encode_record
from lsap_jax.storage.checked_json import sealed
from lsap_jax.storage.results import read_arrays, read_code, read_failures, read_image, read_manifest, read_run
from lsap_jax.storage.shards import Shard
from lsap_jax.testing import tiny_generator

pytestmark = pytest.mark.usefixtures("quick_compilation")
COUNT = 3
STRENGTHS = (-2.0, 0.0, 1.5)
RESULTS = ("animations", "codes", "images", "partners", "strips", "targets")  # folders of them
FILM = Animation(frames=7, fps=10)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with g.safetensors and two finished runs, `run` in F/Z+ and `flat` in F/W+."""
    folder = tmp_path_factory.mktemp("work")
    G = tiny_generator(discriminator=False)
    G.save(folder / "g.safetensors")
    for name, space in (("run", "f/z+"), ("flat", "f/w+")):
        write_run(folder / name, G, folder / "g.safetensors", space, ("0", "1", "sub/2"))
    (folder / "images").mkdir()
    return folder


def command(*argv):
    return main([str(a) for a in argv])


def loaded(work, name="run"):
    from lsap_jax.models.generator_file import load_generator

    G = load_generator(work / "g.safetensors")
    run = read_run(work / name)
    return G, space_of(run, G), read_manifest(work / name)


def tree(folder):
    """File -> bytes, but for locks; lines of lists sorted, as two threads write images that are computed together."""
    return {
        str(p.relative_to(folder)): b"".join(sorted(p.read_bytes().splitlines(True)))
        if p.suffix == ".jsonl"
        else p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and not p.name.startswith(LOCK)
    }


def plan(work, strengths=STRENGTHS):
    G, space, manifest = loaded(work)
    other = read_code(work / "run", "1", manifest=manifest)
    series = [
        *(along(G, space, random_direction(G, space, seed), strengths) for seed in range(2)),
        towards(G, space, "0", "1", other, (0, 0.5, 1)),
        mixed(G, space, "sub/2", "1", other, ("middle",)),
    ]
    return G, series


@pytest.fixture(scope="module")
def edited(work):
    """(folder, summary) of edits of all three kinds, two pictures at a time."""
    G, series = plan(work)
    out = work / "edited"
    return out, edit_run(G, work / "run", out, series, batch_size=4, animation=FILM)


def test_the_folder_is_that_of_the_contract(work, edited):
    out, summary = edited
    assert (summary.done, summary.failed, summary.skipped, summary.whole) == (COUNT, 0, 0, True)
    files = tree(out)
    for id in ("0", "1", "sub/2"):
        assert f"strips/{id}.png" in files
        for seed in range(2):
            assert f"animations/{id}/random-{seed}.webp" in files
            for label in ("-2", "0", "1.5"):
                assert f"images/{id}/random-{seed}/{label}.png" in files
                assert f"codes/{id}/random-{seed}/{label}.npz" in files
    assert {f"images/0/to-1/{t}.png" for t in ("0", "0.5", "1")} <= files.keys()
    assert "images/sub/2/with-1/middle.png" in files and not any(name.startswith("images/1/with") for name in files)
    edit = read_edit(out)
    assert [s["name"] for s in edit["series"]] == ["random-0", "random-1", "to-1", "with-1"]
    assert edit["series"][0]["source"].startswith("random, seed 0") and edit["generator"]["img_resolution"] == 16


def test_strength_0_is_the_runs_own_file_byte_for_byte(work, edited):
    out, _ = edited
    for id in ("0", "1", "sub/2"):
        for part, suffix in (("images", "png"), ("codes", "npz")):
            own = (work / "run" / part / f"{id}.{suffix}").read_bytes()
            assert (out / part / id / "random-0" / f"0.{suffix}").read_bytes() == own
            assert (out / part / id / "random-0" / f"1.5.{suffix}").read_bytes() != own
        assert (out / "targets" / f"{id}.png").read_bytes() == (work / "run" / "targets" / f"{id}.png").read_bytes()


def test_saved_codes_are_on_the_sphere_and_render_to_the_saved_pictures(work, edited):
    from lsap_jax.pixels import to_uint8
    from lsap_jax.rendering.render import render

    out, _ = edited
    G, space, _ = loaded(work)
    for part in ("random-1/1.5", "to-1/0.5"):
        code = read_arrays(out, "0", f"codes/{part}")
        np.testing.assert_allclose(np.linalg.norm(code["z"], axis=-1), np.sqrt(G.z_dim), rtol=1e-5)
        np.testing.assert_array_equal(code["f"].shape, read_code(work / "run", "0")["f"].shape)
        image = to_uint8(render(G, space, {k: a[None] for k, a in code.items()}))[0]
        shown = np.asarray(Image.open(out / "images" / "0" / f"{part}.png"))
        assert np.abs(image.astype(int) - shown).max() <= 1


def test_a_resumed_edit_is_the_same_files(work, edited, tmp_path):
    out, _ = edited
    again = tmp_path / "again"
    shutil.copytree(out, again)
    lines = (again / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    (again / "manifest.jsonl").write_bytes(lines[0] + lines[1][:20])  # killed in the second line
    (again / "images" / "1" / "random-0" / "-2.png").unlink()
    G, series = plan(work)
    summary = edit_run(G, work / "run", again, series, batch_size=4, animation=FILM)
    assert (summary.done, summary.skipped) == (COUNT, 1)
    assert tree(again) == {k: v for k, v in tree(out).items() if k != "report.html"}
    assert edit_run(G, work / "run", again, series, batch_size=4, animation=FILM).skipped == COUNT


def test_an_edit_killed_anywhere_and_resumed_is_the_same_files(work, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "renderer", None)  # put back afterwards: `killed_edit` replaces it
    run = work / "run"
    assert killed_edit.edit(run, tmp_path / "whole").done == COUNT
    whole = tree(tmp_path / "whole")
    assert len([name for name in whole if name.startswith("images")]) == 3 * COUNT
    for method, place, expected in (("stage", 3, {2}), ("put", 2, {0, 1})):  # two of a group are written at once
        out = tmp_path / method
        dead = subprocess.run([sys.executable, killed_edit.__file__, method, str(place), run, out])
        assert dead.returncode == -signal.SIGKILL and (done := len(read_manifest(out))) in expected
        assert killed_edit.edit(run, out).skipped == done
        assert tree(out) == whole


def test_shards_leave_the_same_files(work, edited, tmp_path):
    out, _ = edited
    G, series = plan(work)
    for index in (1, 0):
        options = {"batch_size": 4, "animation": FILM, "shard": Shard(index=index, count=2)}
        summary = edit_run(G, work / "run", tmp_path / "parts", series, **options)
    assert summary.whole
    parts, whole = tree(tmp_path / "parts"), tree(out)
    assert {k: parts[k] for k in parts if k.split("/")[0] in RESULTS} == {
        k: whole[k] for k in whole if k.split("/")[0] in RESULTS
    }
    assert set(read_manifest(tmp_path / "parts")) == {"0", "1", "sub/2"}


def test_other_edits_and_changed_codes_are_refused(work, edited, tmp_path):
    out, _ = edited
    G, series = plan(work)
    with pytest.raises(LsapError, match="was started with other settings"):
        edit_run(G, work / "run", out, series[:1], batch_size=4, animation=FILM)
    with pytest.raises(LsapError, match="is the name of two directions"):
        edit_run(G, work / "run", tmp_path / "a", [series[0], series[0]])
    with pytest.raises(LsapError, match="nothing to do"):
        edit_run(G, work / "run", tmp_path / "a", [])
    with pytest.raises(LsapError, match="has no finished image 'nobody'"):
        edit_run(G, work / "run", tmp_path / "a", [replace(series[2], only="nobody")])
    with pytest.raises(LsapError, match="is the name of two directions"):  # to-1 of image 0 is a folder of both
        edit_run(G, work / "run", tmp_path / "a", [replace(series[0], name="To-1"), series[2]])
    assert not (tmp_path / "a").exists()
    flat = [replace(s, only=None) for s in series[:1]]
    with pytest.raises(LsapError, match="space was 'f/z\\+', is 'f/w\\+'|series"):
        edit_run(G, work / "flat", out, flat, batch_size=4, animation=FILM)


def test_ways_to_one_image_from_two_others_are_two_series(work, tmp_path):
    """Both are called to-1; other points of either are other edits."""
    G, space, manifest = loaded(work)
    other = read_code(work / "run", "1", manifest=manifest)

    def edited(first, second):
        series = [towards(G, space, a, "1", other, points) for a, points in (("0", first), ("sub/2", second))]
        return edit_run(G, work / "run", tmp_path / "out", series, batch_size=4)

    assert edited((0, 0.5), (0, 1)).done == 2
    for points, key in ((((0, 0.25), (0, 1)), r"to-1\.labels was"), (((0, 0.5), (0, 0.25)), "to-1#2")):
        with pytest.raises(LsapError, match=f"was started with other settings .*{key}"):
            edited(*points)
    assert edited((0, 0.5), (0, 1)).skipped == 2


def test_edits_of_two_runs_do_not_mix(work, tmp_path):
    G, series = plan(work)
    first = write_run(tmp_path / "first", G, work / "g.safetensors", "f/z+", ("a", "b"))
    second = write_run(tmp_path / "second", G, work / "g.safetensors", "f/z+", ("p", "q"))
    edit_run(G, first, tmp_path / "out", series[:1], batch_size=4)
    with pytest.raises(LsapError, match="holds edits of 'a', which .*second does not have"):
        edit_run(G, second, tmp_path / "out", series[:1])


def test_shards_that_form_other_groups_are_refused_with_the_remedy(work, tmp_path):
    G, series = plan(work)
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(work / "run", run)
    *lines, last = (run / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    (run / "manifest.jsonl").write_bytes(b"".join(lines))
    options = {"series": series[:1], "batch_size": 4}
    assert edit_run(G, run, out, **options, shard=Shard(index=0, count=2)).left == 1
    with pytest.raises(LsapError, match=r"groups of 1 \(--batch_size=4\), not of 2; .*--batch_size=4, or run wit"):
        edit_run(G, run, out, series[:1], batch_size=6, shard=Shard(index=1, count=2))
    (run / "manifest.jsonl").write_bytes(b"".join([*lines, last]))
    with pytest.raises(LsapError, match="when the run had other images than now; run without --shard"):
        edit_run(G, run, out, **options, shard=Shard(index=1, count=2))
    summary = edit_run(G, run, out, **options)
    assert (summary.done, summary.skipped, summary.left) == (3, 1, 0)


def test_images_that_no_shard_has_done_are_told(work, tmp_path, capsys):
    """Shards 1/3 and 1/2 of three groups both take the second one, and neither another."""
    out = tmp_path / "out"
    options = ("edit", work / "run", "--out", out, "--direction=random:0", "--strengths=-2,0,1.5", "--batch_size=4")
    for shard, left in (("1/3", 2), ("1/2", 2)):
        assert command(*options, f"--shard={shard}") == 0
        assert f"{left} images are still to be done, and no shard is at work; run" in capsys.readouterr().err
    assert set(read_manifest(out)) == {"1"}
    assert command(*options, "--max_pictures=0") == 0 and len(read_manifest(out)) == COUNT


def test_a_damaged_code_fails_alone(work, tmp_path, capsys):
    shutil.copytree(work / "run", tmp_path / "run")
    file = tmp_path / "run" / "codes" / "1.npz"
    file.write_bytes(file.read_bytes()[:-3] + b"abc")
    G, series = plan(work)
    summary = edit_run(G, tmp_path / "run", tmp_path / "out", series[:1], save_codes=False)
    assert (summary.done, summary.failed) == (COUNT - 1, 1)
    assert "has changed since it was written" in read_failures(tmp_path / "out")["1"]["reason"]
    assert not (tmp_path / "out" / "codes").exists()
    assert command("verify", tmp_path / "out") == 0
    assert (
        "10 files of 2 images" in (told := capsys.readouterr().out) and "no codes to render again (--nocodes)" in told
    )
    picture = tmp_path / "out" / "images" / "0" / "random-0" / "1.5.png"
    picture.write_bytes(picture.read_bytes()[:-1] + b"x")
    assert command("verify", tmp_path / "out") == 1
    assert "0/random-0/1.5: " in (told := capsys.readouterr().out) and "1 do not match their SHA-256" in told


def test_an_edit_that_is_not_finite_fails(work, tmp_path, monkeypatch):
    draw = module.renderer

    def broken(*args):
        def call(*one):
            images = draw(*args)(*one).copy()
            images[0, 0, 0] = np.nan
            return images

        return call

    monkeypatch.setattr(module, "renderer", broken)
    G, series = plan(work)
    summary = edit_run(G, work / "run", tmp_path / "out", series[:1])
    assert (summary.done, summary.failed) == (COUNT - 1, 1)
    assert "random-0: a picture is not finite" in read_failures(tmp_path / "out")["0"]["reason"]


def test_series_refuse_what_would_share_a_file(work):
    G, space, manifest = loaded(work)
    direction = random_direction(G, space)
    for strengths, message in (
        ((), "no strengths"),
        ((1, 1.00001), "differ"),
        ((float("nan"),), "finite"),
        ((1e39,), "1e.39 is not a fin"),
    ):
        with pytest.raises(LsapError, match=message):
            along(G, space, direction, strengths)
    with pytest.raises(LsapError, match="is flat"):
        along(G, loaded(work, "flat")[1], replace(direction, space="w"), (1.0,), unit="angle")
    with pytest.raises(LsapError, match="has no meaning for codes"):
        along(G, space, replace(direction, space="w"), (1.0,))
    with pytest.raises(LsapError, match="each must differ"):
        mixed(G, space, "0", "1", read_code(work / "run", "1"), ("middle", "middle"))
    with pytest.raises(LsapError, match="one or more ranges"):
        mixed(G, space, "0", "1", read_code(work / "run", "1"), ())
    assert along(G, space, direction, (-0.0, 3)).labels == ("0", "3")


@pytest.mark.parametrize(
    ("text", "start"), [("../a b", "_a_b-"), ("", "-"), (".hidden", "hidden-"), ("é/ü", "___-"), ("x" * 200, "x" * 90)]
)
def test_names_of_folders_are_plain_and_each_texts_own(text, start):
    name = file_name(text)
    assert name.startswith(start) and len(name) <= 100 and name.isascii() and not set(name) & set("/ \0")
    assert file_name(name) == name != file_name(f"{text}_")
    assert file_name("smile") == "smile" and file_name("人") != file_name("景")


def test_ragged_groups_and_batches_are_one_program(work, tmp_path):
    G, space, _ = loaded(work)
    series = [along(G, space, random_direction(G, space, 5), (-1.0, 2.0))]  # two images a group, and one is left over
    rendering._compiled.cache_clear()
    edit_run(G, work / "run", tmp_path / "out", series, batch_size=4, devices=jax.local_devices()[:1])
    compiled = rendering._compiled(rendering._clipped, space, (jax.local_devices()[0],))
    assert compiled._cache_size() == 1


def test_strips_say_what_each_picture_is_and_begin_with_the_original(work, edited, monkeypatch):
    drawn = {}

    def draw(heads, rows, titles):
        drawn.update(zip(titles, rows, strict=True))
        return rows[0][0][0]

    monkeypatch.setattr(edit_runs, "labelled_grid", draw)
    G, series = plan(work)
    pictures = [np.full((16, 16, 3), k, np.uint8) for k in range(3)]
    partner = (work / "run" / "targets" / "1.png").read_bytes()
    shown = [(series[0], pictures, None), (series[2], pictures, partner), (series[3], pictures[:1], partner)]
    edit_runs.strip(np.full((16, 16, 3), 9, np.uint8), shown)
    texts = {title: [text for _, text in row] for title, row in drawn.items()}
    assert texts == {
        "random-0": ["original", "-2", "0", "1.5"],
        "0 to 1": ["original", "0", "0.5", "1", "the other original"],
        "sub/2 with layers of 1": ["original", "middle", "the other original"],
    }
    for row in drawn.values():
        assert int(row[0][0][0, 0, 0]) == 9 and row[1][0] is pictures[0]
    assert drawn["0 to 1"][-1][0].tobytes() == np.asarray(Image.open(work / "run" / "targets" / "1.png")).tobytes()
    out, _ = edited
    assert (out / "partners" / "0" / "to-1.png").read_bytes() == partner
    assert {part for part in read_manifest(out)["0"]["sha256"] if part.startswith("partners")} == {"partners/to-1"}
    assert read_image(out, "0", "strips").shape[1] == 12 + 5 * 172, "as wide as the way to the other"


def test_the_command_edits_two_runs_and_shows_them_side_by_side(work, capsys):
    flat, both = work / "flat-edits", work / "both"
    options = ("--direction=random:1", "--strengths=-1,0,1", "--batch_size=6")
    assert command("edit", work / "flat", "--out", flat, *options) == 0
    assert command("edit", work / "run", "--out", both, "--beside", flat, *options, "--mix=0:1") == 0
    printed = capsys.readouterr().out
    assert f"{COUNT} images edited" in printed and str(both / "report.html") in printed
    text = (both / "report.html").read_text()
    assert "f/z+ beside f/w+" in text and text.count('<td class="still run">flat (f/w+)</td>') == COUNT
    assert text.count('<td class="still run">run (f/z+)</td>') == COUNT + 1 and "(f/z+): Strengths in steps" not in text
    assert "http:" not in text and "https:" not in text


def test_the_page_of_the_run_leads_to_its_edits(work, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(work / "run", run)
    shutil.copy(work / "g.safetensors", tmp_path)
    write_run_report(run)
    options = ("--direction=random:1", "--strengths=-1,0,1", "--batch_size=6")
    assert "smiles" not in (run / "report.html").read_text()
    for name in ("smiles", "more & more"):
        assert command("edit", run, "--out", tmp_path / name, *options) == 0
    text = (run / "report.html").read_text()
    link = '<a href="../more%20%26%20more/report.html">more &amp; more</a>, <a href="../smiles/report.html">smiles</a>'
    assert f"<dt>edits</dt><dd>{link}</dd>" in text
    assert write_run_report(run).read_text() == text, "nothing else of the page has changed"
    shutil.rmtree(tmp_path / "smiles")
    (run / "report.html").write_bytes(b"\xff another page")
    assert command("edit", run, "--out", tmp_path / "again", *options) == 0
    assert (run / "report.html").read_bytes() == b"\xff another page"
    (run / "report.html").unlink()
    assert command("edit", run, "--out", tmp_path / "once", *options) == 0 and not (run / "report.html").exists()


def test_edits_are_verified_and_their_page_is_written_anew(work, edited, capsys, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(edited[0], out)
    assert command("verify", out) == 0
    assert "22 edits of 3 images" in capsys.readouterr().out  # 2 directions of 3 strengths each; 3 + 1 more
    assert command("report", out, "--max_pictures=1") == 0
    assert "Pictures of 1 of the 3" in (out / "report.html").read_text()
    code = out / "codes" / "1" / "random-0" / "-2.npz"
    code.write_bytes(code.read_bytes()[:-1] + b"x")
    strip_file = out / "strips" / "0.png"
    strip_file.write_bytes(strip_file.read_bytes() + b"x")
    shutil.copy(out / "images/0/random-0/0.png", out / "images/0/random-0/1.5.png")
    assert command("verify", out) == 1
    found = capsys.readouterr().out
    assert "strips/0.png: has changed" in found and "0/random-0/1.5: " in found and "3 do not match" in found
    assert "20 edits of 3 images rendered again: all match" in found  # neither the code nor the picture that changed
    assert command("report", work / "run", "--beside", out) == 2
    assert "is for the page of edits" in capsys.readouterr().err


def test_the_command_says_what_is_wrong(work, capsys):
    run, out = work / "run", work / "never"
    cases = [
        ((), "nothing to do"),
        (("--direction=random:x",), "random"),
        (("--direction=random:1", "--strengths=a"), "--strengths=a"),
        (("--direction=random:1", "--unit=angle", "--absolute=own"), "absolute coordinates belong to flat spaces"),
        (("--direction=nonsense",), "nonsense"),
        (("--interpolate=0",), "give A:B"),
        (("--interpolate=0:7",), "give A:B"),
        (("--mix=0:1", "--ranges=upper"), "upper"),
        (("--direction=random:1", "--beside", run), "edit.json"),
        (("--interpolate=0:1", "--strengths=1"), "--strengths belongs to --direction, which is not given"),
        (("--mix=0:1", "--layers=4"), "--layers belongs to --direction"),
        (("--direction=random:1", "--points=3"), "--points belongs to --interpolate"),
        (("--direction=random:1", "--ranges=fine"), "--ranges belongs to --mix"),
    ]
    for options, message in cases:
        assert command("edit", run, "--out", out, *options) == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert message in line, line
    assert not out.exists()


def test_the_page_leaves_places_of_missing_pictures_empty(edited, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(edited[0], out)
    (out / "images" / "0" / "random-0" / "-2.png").unlink()
    text = write_edit_report(out, max_images=2).read_text()
    assert text.count('<span class="absent">none</span>') == 1
    assert "Pictures of 2 of the 3 images are embedded" in text
    assert write_edit_report(out, max_images=0).read_text().count("No pictures.") == 4
    assert "Pictures of 1 of the 3" in write_edit_report(out, max_bytes=10).read_text()


def test_the_page_shows_the_originals_where_the_folder_has_them(edited, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(edited[0], out)
    text = write_edit_report(out).read_text()
    assert text.count('alt="original"') == 2 * COUNT + 2 and text.count(">original</th>") == 4  # 2 directions, to, with
    assert text.count('alt="the other original"') == text.count(">the other original</th>") == 2
    records = read_manifest(out).values()
    for record in records:  # as earlier versions left it
        del record["sha256"]["targets"]
        record["sha256"] = {part: one for part, one in record["sha256"].items() if not part.startswith("partners")}
    (out / "manifest.jsonl").write_bytes(b"".join(map(encode_record, records)))
    shutil.rmtree(out / "targets")
    old = write_edit_report(out).read_text()
    assert ">original<" not in old and 'original"' not in old and 'class="absent"' not in old
    assert command("verify", out) == 0


def test_rows_of_two_folders_of_one_space_are_told_apart(work, edited, tmp_path, capsys):
    first, beside = tmp_path / "first", tmp_path / "beside"
    shutil.copytree(edited[0], first)
    G, space, _ = loaded(work)
    wide = replace(random_direction(G, space, 0), scale=2.0)
    edit_run(G, work / "run", beside, [along(G, space, wide, STRENGTHS)])
    text = write_edit_report(first, beside).read_text()
    for name, rows in (("first", 2 * COUNT + 2), ("beside", COUNT)):
        assert text.count(f'<td class="still run">{name}: run (f/z+)</td>') == rows
    assert "first: run (f/z+): Strengths in steps; all layers." in text
    assert "beside: run (f/z+): Strengths in steps, each 2 long; all layers." in text
    other = write_run(tmp_path / "other", G, work / "g.safetensors", "f/z+", ("p",))
    edit_run(G, other, tmp_path / "foreign", [along(G, space, wide, (1.0,))], batch_size=2)
    for argv in (
        ("report", first, "--beside", tmp_path / "foreign"),
        ("edit", work / "run", "--out", tmp_path / "never", "--direction=random:0", "--beside", tmp_path / "foreign"),
    ):
        assert command(*argv) == 2
        assert "has no edits of the images of" in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


def test_the_worst_by_identity_come_first_on_request(edited, tmp_path, capsys):
    out = tmp_path / "copy"
    shutil.copytree(edited[0], out)
    assert command("report", out, "--worst=identity") == 2
    assert "have no metric (`lsap-jax edit --identity` measures one)" in capsys.readouterr().err
    meter = {"name": "dlib", "network": "dlib", "weights": "", "detector": ""}
    (out / "edit.json").write_bytes(sealed({**read_edit(out), "identity": meter}))
    records = read_manifest(out)
    for id, values in (("0", (0.9, 0.5)), ("1", (0.3, 0.8)), ("sub/2", ())):
        places = ("random-0/-2", "random-0/1.5")
        records[id]["metrics"] = {f"identity/{place}": v for place, v in zip(places, values, strict=False)}
    (out / "manifest.jsonl").write_bytes(b"".join(map(encode_record, records.values())))
    assert from_worst(_folder(out), "identity") == ["1", "0", "sub/2"], "0.55 is less than 0.7; no face comes last"
    text = write_edit_report(out, max_images=1, worst="identity").read_text()
    assert "Pictures of 1 of the 3 images are embedded, the worst by identity" in text
    assert '<th scope="rowgroup" rowspan="1">1<a' in text and 'rowspan="1">0' not in text
    assert command("report", out, "--worst=mse") == 2 and "have only identity" in capsys.readouterr().err


def test_a_name_of_a_direction_cannot_break_the_page(work, tmp_path):
    G, space, _ = loaded(work)
    evil = Direction(name="<script>x</script>", space="z", vector=np.ones(G.z_dim, np.float32), source="<b>evil</b>")
    edit_run(G, work / "run", tmp_path / "out", [along(G, space, evil, (0.0, 1.0))])
    text = write_edit_report(tmp_path / "out").read_text()
    assert "<b>evil" not in text and "<script>x" not in text and "&lt;b&gt;evil" in text


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    driver, binary = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("google-chrome")
    if not driver or not binary:
        pytest.skip("no Chromium with its driver is installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    with contextlib.suppress(Exception):
        chrome.quit()


@pytest.mark.slow
def test_the_slider_chooses_the_picture(edited, browser):
    path = write_edit_report(edited[0])
    browser.get(path.as_uri())
    script = """
      const slider = document.querySelector('.slider input'), row = document.querySelector('table.edits tbody tr');
      const shown = row.querySelectorAll('td:not(.now):not(.still)');
      const same = (k) => row.querySelector('.now img').src === shown[k].querySelector('img').src;
      const found = [slider.value, same(1)];
      slider.value = '2';
      slider.dispatchEvent(new Event('input'));
      found.push(same(2), document.querySelector('.slider output').textContent);
      shown[0].click();
      row.querySelector('td.still').click();
      for (const still of document.querySelectorAll('.still')) still.click();
      document.querySelectorAll('thead th')[1].click();
      found.push(same(0), slider.value);
      const way = document.querySelectorAll('.slider input')[2];
      found.push(way.max, way.closest('section').querySelectorAll('tbody img').length);
      return JSON.stringify(found);
    """
    assert json.loads(browser.execute_script(script)) == ["1", True, True, "1.5", True, "0", "2", 6]
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
