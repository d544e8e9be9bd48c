"""What is refused, and that the refusal names it: tensors that do not fit, layers that disagree, other kinds."""

import re

import foreign_dialects as dialects
import foreign_files as files
import numpy as np
import pytest

import convert_weights
from convert_weights import ConversionError

G = dialects.random_generator()
D = dialects.random_discriminator()


@pytest.fixture
def read(tmp_path):
    def run(data):
        path = tmp_path / "weights"
        path.write_bytes(data)
        return convert_weights.read(path)

    return run


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("synthesis.b8.conv1.weight"), "missing synthesis.b8.conv1.weight"),
        (lambda s: s.update({"synthesis.b8.conv1.gain": np.ones(2, np.float32)}), "synthesis.b8.conv1.gain"),
        (lambda s: s.update({"mapping.fc0.bias": np.ones(3, np.float32)}), r"mapping.fc0.bias is \[3\], not \[4\]"),
        (lambda s: s.update({"synthesis.b8.torgb.bias": np.array([1, np.nan, 0], np.float32)}), "b8.torgb.bias holds"),
        (lambda s: s.update({"mapping.fc0.bias": np.ones(4, np.int64)}), "mapping.fc0.bias: has type int64"),
        (lambda s: s.update({"synthesis.b8.resample_filter": s["synthesis.b8.resample_filter"].T * 2}), "filter"),
        (lambda s: s.pop("mapping.fc0.weight"), "mapping"),
        (lambda s: s.update({"synthesis.b32.const": np.ones((2, 4, 4), np.float32)}), r"blocks of \[4, 8, 32\]"),
    ],
)
def test_refusals_name_the_tensor(read, change, message):
    weights = dict(G)
    change(weights)
    for data in (
        files.npz({f"G_ema/{n}": a for n, a in weights.items()}),
        files.torch_zip({"G_ema": dialects.state_dict(weights)}),
    ):
        with pytest.raises(ConversionError, match=message):
            read(data)


def test_layers_that_disagree_and_stated_sizes_that_do_not_fit_are_refused(read):
    facts = files.generator_facts(z_dim=5)
    with pytest.raises(ConversionError, match="states z_dim 5 but its tensors have 4"):
        read(files.plain({"G_ema": files.nvlabs(G, "Generator", facts)}))
    mixed = files.nvlabs(G, "Generator", files.generator_facts())
    layer = mixed.args[0]["state"]["_modules"].items["synthesis"].args[0]["state"]["_modules"].items["b8"]
    layer.args[0]["state"]["_modules"].items["conv1"].args[0]["state"]["conv_clamp"] = 256
    with pytest.raises(ConversionError, match="conv_clamp"):
        read(files.plain({"G_ema": mixed}))
    facts = files.generator_facts()
    facts["fc"] = facts["fc"] | {"activation": "relu"}
    with pytest.raises(ConversionError, match="activation"):
        read(files.plain({"G_ema": files.nvlabs(G, "Generator", facts)}))


def _unsupported():
    """Name that the refusal must contain -> file."""
    ones = np.ones
    plain, facts = files.plain, files.generator_facts()
    sg3 = {"synthesis.input.weight": ones((2, 2), np.float32), "mapping.w_avg": ones(2, np.float32)}
    tf, d = dialects.tensorflow_generator(G), dialects.tensorflow_discriminator(D)
    old, old_d = dialects.tensorflow_generator(G, 2), dialects.tensorflow_discriminator(D, 2)
    cond = dialects.tensorflow_generator(G)
    variables = cond.state["components"].items["mapping"].state["variables"]
    variables.append(("LabelConcat/weight", ones((3, 4), np.float32)))
    revised = dialects.tensorflow_generator(G, synthesis_func="G_synthesis_stylegan_revised")
    genforce_cond = dialects.genforce(G) | {"mapping.label_weight": ones((2, 4), np.float32)}
    lpips = {"net.slice1.0.weight": ones((2, 3, 3, 3), np.float32), "lin0.model.1.weights": ones(2, np.float32)}
    arcface = {"input_layer.0.weight": ones((2, 3, 3, 3), np.float32), "body.0.x": ones(2)}
    lonely = files.nvlabs(G, "Generator", facts)
    rosinality = {"g": dialects.state_dict(dialects.rosinality(G))}
    return {
        "StyleGAN3": plain({"G_ema": files.nvlabs(sg3, "Generator", facts)}),
        "a StyleGAN3": files.torch_zip({"G_ema": dialects.state_dict(sg3)}),
        "TriPlaneGenerator": plain({"G_ema": files.nvlabs(G, "TriPlaneGenerator", facts)}),
        "TensorFlow pickle of version 2": plain((old, old_d, old)),
        "PGGAN": plain((files.Obj(files.Ref("tfutil", "Network"), new=True, state={}),) * 3),
        "conditional": plain((tf, d, cond)),
        "a conditional": files.torch_zip({"generator_smooth": dialects.state_dict(genforce_cond)}),
        "TorchScript": files.torch_zip({}, **{"code/model.py": b"def f(): pass", "constants.pkl": b""}),
        "tar": b"x".ljust(257, b"\0") + b"ustar".ljust(300, b"\0"),
        "LPIPS module": files.torch_legacy(dialects.state_dict(lpips)),
        "configs A-D": plain((tf, d, revised)),
        "fused_magic": plain((tf, d, dialects.tensorflow_generator(G, fused_magic=True))),
        "ArcFace": files.torch_zip(dialects.state_dict(arcface)),
        "unknown name": plain({"G": lonely, "G_emb": files.module("Generator", {}, {})}),
        "unknown name latent_avh;": files.torch_zip(rosinality | {"latent_avh": files.T(ones(4))}),
        "the unknown entry 'e'": files.torch_zip(rosinality | {"e": dialects.state_dict({"x": ones(2)})}),
        "no generator": files.npz({f"D/{n}": a for n, a in D.items()}),
        "web page": b"<!DOCTYPE html><html>Google Drive - Quota exceeded</html>",
        "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00",
        "gzip": b"\x1f\x8b\x08\x00rest",
        "is empty": b"",
        "not a known checkpoint format": b"hello, this is a text file",
        "safetensors": (20).to_bytes(8, "little") + b'{"a":1}'.ljust(40),
    }


UNSUPPORTED = _unsupported()


@pytest.mark.parametrize("name", sorted(UNSUPPORTED))
def test_what_is_not_supported_is_refused_by_name(read, name):
    with pytest.raises(ConversionError, match=re.escape(name)) as error:
        read(UNSUPPORTED[name])
    assert "\n" not in str(error.value) and "weights" in str(error.value).partition(":")[0]


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ConversionError, match="cannot be read"):
        convert_weights.read(tmp_path / "absent.pkl")
    with pytest.raises(ConversionError, match="cannot be read"):
        convert_weights.read(tmp_path)
