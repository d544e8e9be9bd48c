"""The command line's surface: help, arguments, errors, and the commands that need no run."""

import gc
import json
import subprocess
import sys
import time

import foreign_dialects
import foreign_files as files
import numpy as np
import pytest
from PIL import Image

from convert_weights.basecode import encoder_shapes
from convert_weights.perceptual import BACKBONES
from lsap_jax.cli import COMMANDS, generate, invert, main
from lsap_jax.cli.arguments import configuration, literal, parse
from lsap_jax.errors import LsapError
from lsap_jax.models.generator_file import load_generator
from lsap_jax.testing import tiny_generator


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "g.safetensors"
    tiny_generator(discriminator=False).save(path)
    return path


def run(*argv):
    return main([str(a) for a in argv])


def fails(capsys, *argv):
    """The one line of an unusable command."""
    assert run(*argv) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    return error


def picture(path):
    with Image.open(path) as image:
        return np.asarray(image)


def parsed(*argv):
    return parse(invert, argv)


@pytest.mark.parametrize("argv", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_is_quick_and_imports_nothing_heavy(argv):
    code = f"""
import sys
sys.argv = ["lsap-jax", *{argv!r}]
from lsap_jax.cli import main
status = main()
heavy = {{"jax", "flax", "optax", "orbax", "ml_collections", "rich", "safetensors"}} & set(sys.modules)
sys.exit(f"imports {{heavy}}" if heavy else status)
"""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "lsap-jax" in done.stdout
    assert time.monotonic() - started < 5  # a second on an idle machine; the import check above is what holds it


def test_module_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "lsap_jax", "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("lsap-jax ") and done.returncode == 0


def test_every_command_has_help_that_names_its_flags(capsys):
    for name in COMMANDS:
        assert run(name, "--help") == 0
        assert f"usage: lsap-jax {name}" in capsys.readouterr().out


def test_no_command_and_unknown_commands(capsys):
    assert run() == 2
    assert "usage" in capsys.readouterr().err
    error = fails(capsys, "inver")
    assert "did you mean 'invert'?" in error and all(name in error for name in COMMANDS)


def test_arguments_come_in_any_order_and_both_spellings():
    args = parsed("a", "--out", "o", "b", "--steps=3", "--config.loss.mse", "2", "--batch-size=4", "c")
    assert args.positional == ("a", "b", "c") and args.flags.out == "o"
    assert (args.flags.steps, args.flags.batch_size) == (3, "4")
    assert dict(args.config) == {"loss.mse": "2"}
    assert parsed("--", "--out").positional == ("--out",)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--stesp=3"], ["--stesp", "did you mean --steps"]),
        (["--zzzzzz"], ["--zzzzzz", "--help"]),
        (["--steps=abc"], ["--steps=abc"]),
        (["--out"], ["--out"]),
        (["--init_kind=q"], ["init_kind", "auto"]),
        (["--config.seed"], ["--config.seed", "no value"]),
    ],
)
def test_wrong_flags_are_named(argv, words):
    with pytest.raises(LsapError) as caught:
        parsed(*argv)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("text", "old", "value"),
    [
        ("3", 1, 3),
        ("1e3", 1, 1000),
        ("2", 1.5, 2),
        ("f/z", "z", "f/z"),
        ("1", "text", "1"),
        ("no", True, False),
        ("(1, 2)", (0,), (1, 2)),
        ("7", (), (7,)),
        ("a.npz,b.npz", (), ("a.npz", "b.npz")),
        ("None", None, None),
        ("0.6", None, 0.6),
    ],
)
def test_values_of_configuration_keys(text, old, value):
    found = literal("key", text, old)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("text", "old"), [("maybe", True), ("x y", 1), ("[", 1.0)])
def test_values_of_a_wrong_type(text, old):
    with pytest.raises(LsapError, match="--config.key="):
        literal("key", text, old)


def test_configuration_of_flags():
    config = configuration(parsed("--config.loss.mse=2", "--config.chunk=7"), "f/z+", {"steps": 9}, key="space")
    assert (config.loss.mse, config.chunk, config.steps, config.space) == (2.0, 7, 9, "f/z+")
    with pytest.raises(LsapError, match="contradicts its shorthand"):
        configuration(parsed("--config.steps=3"), "z", {"steps": 9}, key="space")
    with pytest.raises(LsapError, match="another command"):
        configuration(parsed("--config=toonhead64"), "z", {}, key="space")
    with pytest.raises(LsapError, match="unknown configuration key 'stesp'"):
        configuration(parsed("--config.stesp=3"), "z", {}, key="space")


def test_space_chooses_the_preset():
    assert invert.choose_config(parsed("--space", "f/z+:code")).retraction == "normalise"
    assert invert.choose_config(parsed("--config", "zplus", "--space=z", "--seed=4")).space == "z"
    with pytest.raises(LsapError, match="preset"):
        invert.choose_config(parsed("--config=zplus", "--space=f/z+:code"))
    with pytest.raises(LsapError, match="choose one of z, z\\+"):
        invert.choose_config(parsed("--space=q"))


def test_unusable_input_is_one_line(capsys, tmp_path, generator):
    text = tmp_path / "notes.txt"
    text.write_text("no weights")
    assert "no images" in fails(capsys, "invert", "--out", tmp_path / "o")
    assert "--out is missing" in fails(capsys, "invert", tmp_path, "--generator", generator)
    assert "nowhere" in fails(capsys, "invert", tmp_path, "--generator", "nowhere", "--out", tmp_path / "o")
    assert "notes.txt" in fails(capsys, "convert", text, tmp_path / "dst")
    assert "expected SRC DST" in fails(capsys, "convert", text)
    assert "the source itself" in fails(capsys, "convert", text, text)
    assert "not a run folder" in fails(capsys, "report", tmp_path)
    assert "has no configuration" in fails(capsys, "report", tmp_path, "--config.steps=3")
    assert "is not a seed" in fails(capsys, "generate", "--generator", generator, "--seeds=5-2", "--out", tmp_path)
    assert "--generator is missing" in fails(capsys, "train-basecode", "--out", tmp_path / "t")
    assert not (tmp_path / "o").exists()


def test_unexpected_errors_ask_for_debug(capsys, monkeypatch, tmp_path):
    def broken(args):
        raise RuntimeError("first line\nsecond \x1b[31mline")

    monkeypatch.setattr("lsap_jax.cli.report.run", broken)
    error = fails(capsys, "report", tmp_path)
    assert "RuntimeError: first line second ?[31mline" in error and "--debug" in error
    assert run("report", tmp_path, "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("own", [700, 50_000])
def test_garbage_is_collected_less_often_while_a_command_runs(monkeypatch, own):
    """And as often as before after it, whether it fails or not; a rarer collection of the caller's stays."""
    from lsap_jax.cli import models

    seen = []

    def run(args):
        seen.append(gc.get_threshold()[0])
        raise LsapError("no")

    before = gc.get_threshold()
    monkeypatch.setattr(models, "run", run)
    try:
        gc.set_threshold(own)
        assert main(["models"]) == 2
        assert gc.get_threshold()[0] == own
    finally:
        gc.set_threshold(*before)
    assert seen == [max(own, 10_000)]


def test_interruption_and_full_disks(capsys, monkeypatch, tmp_path):
    def interrupted(args):
        raise KeyboardInterrupt

    def full(args):
        raise OSError(28, "No space left on device", "there.png")

    monkeypatch.setattr("lsap_jax.cli.report.run", interrupted)
    assert run("report", tmp_path) == 130
    capsys.readouterr()
    monkeypatch.setattr("lsap_jax.cli.report.run", full)
    assert "there.png: cannot be read or written (No space left" in fails(capsys, "report", tmp_path)


def test_generate_draws_the_seeds_of_nvlabs(capsys, tmp_path, generator):
    assert run("generate", "--generator", generator, "--seeds=7,0-1", "--out", tmp_path / "s") == 0
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == [
        "grid.png", "seed0000.png", "seed0001.png", "seed0007.png",
    ]  # fmt: skip
    G = load_generator(generator)
    z = np.random.RandomState(7).randn(1, G.z_dim).astype(np.float32)
    expected = np.clip(np.asarray(G.synthesis(G.mapping(z)))[0] * 127.5 + 128, 0, 255)
    shown = picture(tmp_path / "s" / "seed0007.png").astype(np.float32)
    assert np.abs(shown - np.floor(expected)).max() <= 1
    assert generate.parse_seeds("3, 1-2,2") == [3, 1, 2]


def test_convert_writes_weights_with_provenance_and_samples(capsys, tmp_path):
    facts = files.generator_facts(z_dim=4, c_dim=0, w_dim=4, img_resolution=8, img_channels=3)
    G = files.nvlabs(foreign_dialects.random_generator(), "Generator", facts)
    source, target = tmp_path / "official.pkl", tmp_path / "mine.safetensors"
    source.write_bytes(files.plain({"G_ema": G}))
    assert run("convert", source, target) == 0
    out = capsys.readouterr().out
    assert "NVlabs" in out and "8 px" in out and "ignored" in out and "licence" in out and "parameters" in out
    found = load_generator(target)
    assert found.provenance["source"] == "official.pkl" and len(found.provenance["source_sha256"]) == 64
    assert picture(tmp_path / "mine.samples.png").shape == (4 * 10 + 2, 4 * 10 + 2, 3)
    assert run("convert", source, tmp_path / "bare", "--nogrid") == 0
    assert not (tmp_path / "bare.samples.png").exists()
    assert load_generator(tmp_path / "bare").sha256 == found.sha256


def test_convert_lpips_from_its_halves(capsys, tmp_path):
    rng = np.random.default_rng(0)
    shapes = BACKBONES["squeezenet1_1"]
    backbone, lin = tmp_path / "squeezenet.pth", tmp_path / "squeeze.pth"
    backbone.write_bytes(files.torch_zip(files.ordered({n: rng.random(s, np.float32) for n, s in shapes.items()})))
    widths = (64, 128, 256, 384, 384, 512, 512)
    layers = {f"lin{k}.model.1.weight": rng.random((1, c, 1, 1), np.float32) for k, c in enumerate(widths)}
    lin.write_bytes(files.torch_zip(files.ordered(layers)))
    assert "--lin" in fails_after_output(capsys, "convert", backbone, tmp_path / "dst")
    assert "as --lin" in fails_after_output(capsys, "convert", lin, tmp_path / "dst")
    assert run("convert", backbone, tmp_path / "dst", "--lin", lin) == 0
    from lsap_jax.models.network_file import load

    assert load(tmp_path / "dst", "lpips").name == "lpips_squeeze"


def test_convert_base_code_encoder_alone_and_joined(capsys, tmp_path, generator):
    rng = np.random.default_rng(0)
    shapes = encoder_shapes({"widths": [4, 4, 8], "out_channels": 8, "in_channels": 3})
    source = tmp_path / "encoder.pth"
    source.write_bytes(
        files.torch_zip({"encoder": files.ordered({n: rng.random(s, np.float32) for n, s in shapes.items()})})
    )
    joined = tmp_path / "joined.safetensors"
    assert run("convert", source, tmp_path / "alone", "--base_resolution=4") == 0
    assert run("convert", tmp_path / "alone", joined, "--generator", generator, "--nogrid") == 0
    assert run("convert", source, tmp_path / "same", "--generator", generator, "--base_resolution=4", "--nogrid") == 0
    argv = ("convert", source, joined, "--generator", generator, "--base_resolution=32")
    assert "base codes of 32 px" in fails_after_output(capsys, *argv)
    found = load_generator(joined)
    assert found.basecode is not None and found.basecode.config.base_resolution == 4
    assert found.sha256 == load_generator(tmp_path / "same").sha256
    assert found.provenance["basecode"]["source"] == "alone"


def fails_after_output(capsys, *argv):
    """As `fails`, for a command that prints what it found before it refuses."""
    capsys.readouterr()
    return fails(capsys, *argv)


def test_training_commands_run_their_trainers(capsys, tmp_path, generator):
    images = np.random.default_rng(0).integers(0, 255, (12, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "pack.npz", images=images)
    seen = {}

    def trainer(config, *rest, **options):
        seen.update(config=config, out=rest[-1] if len(rest) == 1 else rest[1], **options)
        return tmp_path / "weights"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lsap_jax.training.generator.train_generator", trainer)
        patch.setattr("lsap_jax.training.basecode.train_basecode", trainer)
        data = f"--config.data={tmp_path / 'pack.npz'}"
        argv = ("--config.total_images=1e2", "--seed=3", "--stop_after=2.5", "--out", tmp_path / "t")
        assert run("train-generator", data, *argv) == 0
        assert (seen["config"].total_images, seen["config"].seed, seen["out"]) == (100, 3, tmp_path / "t")
        assert seen["stop_after"] == 2.5
        assert run("train-basecode", "--generator", generator, "--out", tmp_path / "b", "--config.train.lr=1e-4") == 0
        assert (seen["config"].generator, seen["config"].train.lr) == (str(generator), 1e-4)
    assert capsys.readouterr().out.count(str(tmp_path / "weights")) == 2


def test_header_of_a_converted_file_is_json(tmp_path, generator):
    data = generator.read_bytes()
    size = int.from_bytes(data[:8], "little")
    assert "lsap_jax" in json.loads(data[8 : 8 + size])["__metadata__"]
