"""Directions by name, their cache, and the finders of `lsap-jax find-directions`."""

import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lsap_jax import cli
from lsap_jax.editing import finders, ganspace, interfacegan, named
from lsap_jax.editing.direction import Direction
from lsap_jax.editing.direction_file import read_directions, save_directions
from lsap_jax.editing.edit import edit
from lsap_jax.editing.imported import load_directions
from lsap_jax.editing.named import cached, find
from lsap_jax.editing.random import random_direction
from lsap_jax.editing.sefa import sefa
from lsap_jax.editing.styles import in_styles
from lsap_jax.errors import LsapError
from lsap_jax.testing import tiny_generator

pytestmark = pytest.mark.usefixtures("quick_compilation", "few_samples")


@pytest.fixture(scope="module")
def few_samples():
    """Of GANSpace, a small chunk of which is drawn quickly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ganspace, "SAMPLES", 3000)
        patch.setattr(ganspace, "REGRESSION_SAMPLES", 2000)
        yield


@pytest.fixture(scope="module")
def G():
    return tiny_generator(discriminator=False)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache folder and an empty package."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "assets").mkdir()
    monkeypatch.setattr(named, "assets", lambda: tmp_path / "assets")
    return tmp_path


def made(name: str, space: str, seed: int = 0, **more) -> Direction:
    dim = {"s": 80}.get(space, 16)
    return Direction(
        name=name, space=space, vector=np.random.default_rng(seed).standard_normal(dim, np.float32), **more
    )


def same(found: list[Direction], expected) -> None:
    assert [(d.name, d.space, d.layers) for d in found] == [(d.name, d.space, d.layers) for d in expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.vector, b.vector)


def test_random_and_sefa_by_their_numbers(G, home):
    same(find(G, "f/z+", "random:7"), [random_direction(G, "z", 7)])
    same(find(G, "pn+", " random:7:code "), [random_direction(G, "pn", 7, "code")])
    same(find(G, "w+", "sefa:1-3"), sefa(G, 4)[1:])
    same(find(G, "f/s", "sefa:0"), [in_styles(G, sefa(G, 1)[0])])
    for text, space, name in (("random:7", "z", "random-7"), ("random:7:code", "w", "random-7-code")):
        same(find(G, space, name), find(G, space, text))
        assert find(G, space, text)[0].name == name
    same(find(G, "s", "sefa-2@w"), find(G, "s", "sefa:2"))
    with pytest.raises(LsapError, match="SeFa has directions of w, s, none of z"):
        find(G, "z", "sefa-2")
    assert not (home / "cache").exists()  # these take no time


def test_ganspace_is_found_once_for_every_family(G, home, monkeypatch):
    told, w = [], ganspace.ganspace_w(G, 16)
    same(find(G, "w+", "ganspace:2-4", lambda *now: told.append(now)), ganspace.ganspace_w(G, 16, 3000)[2:5])
    assert told == [(3000, 3000)] and len(w) == 16
    monkeypatch.setattr(ganspace, "ganspace_w", pytest.fail)
    (again,) = find(G, "w", "ganspace:15")
    assert again.mean is not None and 0 < again.measures["variance"] < 1 and again.generator == G.network_sha256
    same(find(G, "f/s", "ganspace:0"), [in_styles(G, find(G, "w", "ganspace:0")[0])])
    z = ganspace.ganspace_z(G, 16, 3000, 2000)
    same(find(G, "f/z+", "ganspace:3"), z[3:4])
    cached(G, "found-last", {}, lambda: [made("ganspace-3", "z")])  # a name means the same as before
    same(find(G, "f/z+", "ganspace-3"), z[3:4])
    monkeypatch.setattr(ganspace, "ganspace_z", pytest.fail)
    same(find(G, "z", "ganspace:0-3"), z[:4])
    assert len(list((home / "cache" / "lsap_jax" / "directions").glob("*/ganspace-*.safetensors"))) == 2


def test_ganspace_of_other_settings_or_weights_is_another_file(G, home):
    other = tiny_generator(seed=1, discriminator=False)
    found = [
        named.ganspace_directions(G, "w", 1)[0],
        named.ganspace_directions(G, "w", 1, seed=1)[0],
        named.ganspace_directions(G, "w", 1, samples=2000)[0],
        named.ganspace_directions(other, "w", 1)[0],
    ]
    assert len({d.vector.tobytes() for d in found}) == 4
    assert [len(list(named.cache_folder(g).iterdir())) for g in (G, other)] == [3, 1]
    assert named.cache_folder(G.replace(source="elsewhere")) == named.cache_folder(G)


def test_directions_of_a_class_are_that_classs(home):
    G = tiny_generator(classes=3, discriminator=False)
    first, second = (G.for_classes(np.eye(3, dtype=np.float32)[k : k + 1]) for k in (0, 1))
    save_directions(named.cache_folder(first) / "a.safetensors", [made("smile", "w")])
    assert find(first, "w", "smile")[0].name == "smile"
    with pytest.raises(LsapError, match="no direction 'smile' for space w"):
        find(second, "w", "smile")


def test_a_damaged_cache_is_found_again_and_replaced(G, home):
    calls = []

    def compute():
        calls.append(1)
        return [made("mine", "w")]

    def ask(**settings):
        return cached(G, "method", settings, compute)

    for _ in range(2):
        same(list(ask(a=1)), [made("mine", "w")])
    assert len(calls) == 1
    (path,) = named.cache_folder(G).iterdir()
    whole = path.read_bytes()
    for damaged in (whole[:-3] + b"\0\1\2", whole[:50], b"", b"x" * 100):
        path.write_bytes(damaged)
        assert named.cached_directions(G) == []
        ask(a=1)
        assert path.read_bytes() == whole
    assert len(calls) == 5
    ask(a=2)
    assert len(calls) == 6 and len(list(named.cache_folder(G).iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_no_error(G, home, monkeypatch):
    (home / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "file"))
    same(list(cached(G, "method", {}, lambda: [made("mine", "w")])), [made("mine", "w")])


def test_the_bundled_ones_come_before_the_cached_ones(G, home):
    own = G.network_sha256
    bundle = home / "assets" / "g.directions.safetensors"
    save_directions(
        bundle,
        [
            made("smile", "w", 1, generator=own),
            made("smile", "z", 2, generator=own),
            made("beard", "w", 3, generator=own, layers="coarse"),
            made("other", "w", 4, generator="0" * 64),
        ],
    )
    for when, seed in ((10, 5), (30, 6), (20, 7)):
        cached(
            G,
            f"method{seed}",
            {},
            lambda seed=seed: [made(n, "w", seed, source=f"seed {seed}") for n in ("smile", "hat")],
        )
        (path,) = named.cache_folder(G).glob(f"method{seed}-*")
        os.utime(path, (when, when))
    same(find(G, "w+", "smile"), [made("smile", "w", 1)])
    same(find(G, "f/z", "smile"), [made("smile", "z", 2)])
    same(find(G, "s", "beard"), [in_styles(G, made("beard", "w", 3, layers="coarse"))])
    told: list[str] = []
    same(find(G, "w", "hat", note=told.append), [made("hat", "w", 6)])  # the last one found
    find(G, "w", "smile", note=told.append)
    assert told == ["direction hat is the latest cached one of that name: seed 6"]
    cached(G, "styles", {}, lambda: [made("smile", "s", 8)])
    same(find(G, "s", "smile"), [made("smile", "s", 8)])
    same(find(G, "s", "smile@w"), [in_styles(G, made("smile", "w", 1))])
    for text, space, reason in [
        (
            "smlie",
            "w",
            "no direction 'smlie' for space w: did you mean 'smile'. there are smile, beard, hat, ganspace:K",
        ),
        ("gansapce:3", "w", "did you mean 'ganspace:K'"),
        ("beard", "z+", "direction beard is there for w, not for space z"),
        ("other", "w", "no direction 'other'"),
        ("smile", "pn", "there for w, z, s, not for space pn"),
        ("x", "p", "there are random:SEED, gradient:ATTRIBUTE, or a FILE"),
        ("random", "w", "did you mean 'random:SEED'"),
    ]:
        with pytest.raises(LsapError, match=reason):
            find(G, space, text)
    damaged = bundle.read_bytes()
    bundle.write_bytes(damaged[:-1] + bytes([damaged[-1] ^ 1]))
    with pytest.raises(LsapError, match="damaged"):
        find(G, "w", "smile")


def test_a_package_without_directions_of_this_generator_has_none(G, home):
    with pytest.raises(LsapError, match="no direction 'smile' for space w: there are ganspace:K, sefa:K, random:SEED"):
        find(G, "w", "smile")


def test_files_and_one_of_a_file(G, home, monkeypatch):
    path = home / "some.safetensors"
    every = [made("smile", "w", 1), made("smile", "z", 2), made("beard", "w", 3), made("smile", "s", 4)]
    save_directions(path, every)
    same(find(G, "w+", str(path)), [every[0], every[2]])
    same(find(G, "f/z+", f"{path}:smile"), [every[1]])
    same(find(G, "s", str(path)), [in_styles(G, every[2]), every[3]])
    same(find(G, "s", f"{path}@w"), [in_styles(G, d) for d in (every[0], every[2])])
    same(find(G, "s", f"{path}:smile@w"), [in_styles(G, every[0])])
    np.save(home / "age.npy", every[0].vector[None])
    same(find(G, "w", f"{home}/age.npy@w"), [replace(every[0], name="age")])
    monkeypatch.chdir(home)
    (home / "random:3").write_bytes(path.read_bytes())  # a file of that name comes first
    same(find(G, "z", "random:3"), [every[1]])
    for text, space, reason in [
        (f"{path}:smlie", "w", "no direction 'smlie': did you mean 'smile'. there are smile, beard"),
        (f"{path}:beard", "z", "direction of w and has no meaning in space z; invert in w, w\\+, s, f/w, f/w\\+, f/s "),
        (str(path), "pn", "directions of w, z, s, none for space pn; invert in z, z\\+, w, w\\+, s, f/z, .*, f/s"),
        (f"{path}@p", "p", "none of p"),
        (f"{home}/age.npy", "w", "on the command line as FILE@SPACE"),
        ("none.safetensors", "w", "none.safetensors: no such file"),
        ("none.pt:smile", "w", "none.pt: no such file"),
        ("sub/smile", "w", "sub/smile: no such file"),
    ]:
        with pytest.raises(LsapError, match=reason):
            find(G, space, text)


@pytest.mark.parametrize(
    ("text", "space", "reason"),
    [
        ("random:x", "w", "write random:SEED"),
        ("random:1:loud", "w", "write random:SEED or random:SEED:code"),
        ("random:4294967296", "w", "seeds are 0 to 4294967295"),
        ("ganspace:16", "w", "ganspace:16: write ganspace:K or ganspace:0-4; components of this generator are 0 to 15"),
        ("ganspace:3-1", "z", "ganspace:3-1"),
        ("ganspace:0", "p", "GANSpace has directions of z, w, s, none of p; take random:SEED"),
        ("ganspace:0", "pn+", "none of pn"),
        ("sefa:-1", "w", "sefa:-1"),
        ("sefa:0", "f/z+", "SeFa has directions of w, s, none of z"),
    ],
)
def test_texts_that_name_nothing_are_refused(G, home, text, space, reason):
    with pytest.raises(LsapError, match=reason):
        find(G, space, text)


@pytest.fixture
def run(G, home, capsys):
    """run(method, ...) -> (status, stdout, stderr); the file is home/out.safetensors."""
    G.save(home / "g.safetensors")

    def start(method, *more):
        argv = [f"--generator={home}/g.safetensors", f"--out={home}/out.safetensors", f"--method={method}", *more]
        status = cli.guarded("lsap-jax find-directions", "find_directions", argv)
        said = capsys.readouterr()
        return status, said.out, said.err

    return start


def test_the_command_writes_a_file_and_a_picture(G, home, run):
    status, out, err = run("ganspace", "--components=3", "--space=z,w,s", "--samples=2500", "--layers=1-2")
    assert (status, err) == (0, "")
    found = read_directions(home / "out.safetensors")
    assert [(d.name, d.space) for d in found] == [(f"ganspace-{k}", space) for space in "zws" for k in range(3)]
    assert {d.layers for d in found} == {"1-2"} and "of 2500 w" in found[0].source
    lines = out.splitlines()
    assert lines[0].split() == ["row", "name", "space", "step", "variance", "layers"]
    assert lines[4].split()[:3] == ["3", "ganspace-0", "w"] and lines[4].endswith("1-2")
    assert f"{found[3].measures['variance']:.1%}" in lines[4] and lines[-1].startswith("9 directions in")
    with Image.open(home / "out.png") as image:
        assert image.size == (12 + 5 * 172, 32 + 9 * 192), "160 px each, with a head per column and a line per row"
        cells = np.asarray(image)

    def cell(row, column):
        top, left = 52 + 192 * row, 12 + 172 * column
        return cells[top : top + 160 : 10, left : left + 160 : 10].astype(int)

    middle = [cell(row, 2) for row in range(9)]
    for one in middle:  # strength 0 is one picture, whatever the space
        np.testing.assert_allclose(one, middle[0], atol=1)
    assert np.abs(cell(0, 0) - middle[0]).max() > 5
    assert cells[12:28].min() < 100 and cells[36:50, :100].min() < 100, "strengths and names are written"
    same(find(G, "w", f"{home}/out.safetensors:ganspace-1"), [found[4]])


def test_sefa_and_random_on_the_command_line(G, home, run):
    assert run("sefa", "--components=2", "--layers=coarse", "--nopicture")[0] == 0
    same(list(read_directions(home / "out.safetensors")), [replace(d, layers=d.layers) for d in sefa(G, 2, "coarse")])
    assert not (home / "out.png").exists()
    status, out, _ = run("random", "--components=2", "--seed=5", "--space=p", "--strengths=0,1")
    assert status == 0 and "strengths 0, 1 in" in out
    same(list(read_directions(home / "out.safetensors")), [random_direction(G, "p", seed) for seed in (5, 6)])


class Classifier:
    """A scorer whose calls are counted."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, images):
        self.calls += 1
        means = images.mean(axis=(1, 2))
        return {"red": means[:, 0] - 0.02, "green": means[:, 1] - 0.02, "rare": means[:, 2] - 1e6}


def test_interfacegan_on_the_command_line(G, home, run, monkeypatch):
    classifier, asked = Classifier(), []

    def attribute_scorer(generator, source):
        asked.append(source)
        return classifier, ["red", "green", "rare"], "digest"

    monkeypatch.setattr(finders, "attribute_scorer", attribute_scorer)
    common = ("--samples=600", "--batch_size=100", "--nopicture")
    status, out, err = run("interfacegan", "--space=w,z+", "--attributes=c.safetensors", *common)
    assert status == 0 and classifier.calls == 6 and asked == ["c.safetensors"]
    assert err.count("left out: attribute rare: 0 of 600 samples have it") == 2
    assert [(d.name, d.space) for d in read_directions(home / "out.safetensors")] == [
        (name, space) for space in "wz" for name in ("red", "green")
    ]
    assert "accuracy" in out and "cosines, w" in out and "cosines, z" in out
    red, green = load_directions(home / "out.safetensors", space="w").values()
    assert f"{red.vector @ green.vector:.2f}" in out
    # Conditional, from the cache, and by name.
    assert run("interfacegan", "--names=red", "--condition=green,red", *common)[0] == 0 and classifier.calls == 6
    (one,) = read_directions(home / "out.safetensors")
    assert (
        abs(one.vector @ green.vector) < 1e-6 < 0.1 < one.vector @ red.vector and "conditional on green" in one.source
    )
    w = interfacegan.drawn(G, 600).codes(G, "w", np.arange(600))
    for some, scale in ((red, red.scale), (one, one.scale)):  # a step is one deviation of the codes
        np.testing.assert_allclose((w @ some.vector).std(), scale, rtol=1e-5)
    assert abs(one.scale / red.scale - 1) > 0.05
    same(find(G, "f/z", "red"), [load_directions_of_z(home, G)])
    for more, reason in [
        (("--names=rare", *common), "attribute rare: 0 of 600"),
        (("--names=redd", *common), "'redd': did you mean 'red'? there are red, green, rare"),
        (("--condition=x", *common), "attribute 'x'"),
        (("--space=p", *common), "directions of z, w, s, not of p"),
    ]:
        status, _, err = run("interfacegan", *more)
        assert status == 2 and reason in err and err.count("\n") == 1
    monkeypatch.setattr(finders, "attribute_scorer", lambda *_: (classifier, ["rare"], "other"))
    status, _, err = run("interfacegan", *common)
    assert status == 2 and "none of rare can be found in 600 samples" in err


def test_interfacegan_of_stylegan1_on_the_command_line(home, monkeypatch, capsys):
    """What it finds is of this generator, in every family of spaces, and edits move the attribute along it."""
    G = tiny_generator(family="stylegan1", discriminator=False)
    G.save(home / "g.safetensors")
    monkeypatch.setattr(finders, "attribute_scorer", lambda *_: (Classifier(), ["red"], "digest"))
    argv = ["--method=interfacegan", f"--generator={home}/g.safetensors", f"--out={home}/out.safetensors"]
    argv += ["--space=z,w,s", "--samples=600", "--batch_size=100", "--nopicture"]
    assert cli.guarded("lsap-jax find-directions", "find_directions", argv) == 0
    assert "3 directions in" in capsys.readouterr().out
    found = {one.space: one for one in read_directions(home / "out.safetensors")}
    assert set(found) == set("zws") and all(one.generator == G.network_sha256 for one in found.values())
    w = np.asarray(G.mapping(np.random.default_rng(1).standard_normal((8, 16), np.float32)))
    less, more = edit(G, "w+", {"w": w}, found["w"], [-2, 2]).images.mean(axis=(2, 3))[..., 0]
    assert (more > less).mean() > 0.8


def load_directions_of_z(home, G) -> Direction:
    return next(d for d in named.cached_directions(G) if (d.name, d.space) == ("red", "z"))


def test_the_scorer_is_the_attribute_classifier(G, monkeypatch):
    made_of = type(
        "A", (), {"params": {"conv": {"kernel": np.ones(3)}}, "binary": {"smile": ("mouth", ("a",), ("b",))}}
    )
    asked = []
    monkeypatch.setattr(finders, "load_attributes", lambda *a: asked.append(a) or made_of)
    monkeypatch.setattr(finders, "attribute_scores", lambda a, images: {"smile": images.mean(axis=(1, 2, 3))})
    scorer, names, digest = finders.attribute_scorer(G, None)
    assert asked == [(None, G)] and names == ["smile"] and scorer(np.ones((2, 4, 4, 3)))["smile"].tolist() == [1, 1]
    made_of.binary = {"smile": ("mouth", ("b",), ("a",))}
    assert finders.attribute_scorer(G, None)[2] != digest


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (
            ("--method=sefa", "--samples=100"),
            "--samples belongs to --method ganspace, interfacegan, styleclip, not to sefa",
        ),
        (("--method=random", "--names=a"), "--names belongs to --method interfacegan, not to random"),
        (("--method=sefa", "--space=z"), "SeFa has directions of w, s, none of z"),
        (("--method=sefa", "--space=x"), "unknown space 'x'"),
        (("--method=sefa", "--layers=9"), "has rows 0 to 5, not 9"),
        (("--method=sefa", "--strengths=a"), "--strengths=a: write numbers"),
        (("--method=sefa", "--strengths=0,nan"), "nan is not a finite number"),
        (("--method=ganspace", "--samples=10"), "10 components of 10 samples: they have 9"),
        (("--method=ganspace", "--components=17"), "17 components"),
        (("--method=pca",), "--method=pca"),
        ((), "--method is missing"),
        (("--method=sefa", "more"), "expected no argument besides flags"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(home, G, capsys, more, reason):
    G.save(home / "g.safetensors")
    argv = [f"--generator={home}/g.safetensors", f"--out={home}/out.safetensors", *more]
    assert cli.guarded("lsap-jax find-directions", "find_directions", argv) == 2
    err = capsys.readouterr().err
    assert reason in err and err.count("\n") == 1 and not (home / "out.safetensors").exists()


def test_the_help_gives_the_number_of_samples():
    from lsap_jax.cli import find_directions

    samples = find_directions.flags()["samples"].help
    assert f"{interfacegan.SAMPLES:,} for interfacegan" in samples
