"""Networks wherever a file has them: behind prefixes, under other keys, beside what training scripts save."""

import foreign_dialects as dialects
import foreign_files as files
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import convert_weights
from convert_weights import ConversionError, basecode
from convert_weights.dialects import DIALECTS
from convert_weights.places import ROLES, labelled, places, role

G = dialects.random_generator((3, 2), 3, 3, 2)
D = dialects.random_discriminator((3, 2))
# dialect: generator, discriminator, a key and a value for the mean w beside the generator
NAMED = {
    "nvlabs": (G, D, {}),
    "genforce": (dialects.genforce(G), dialects.genforce_discriminator(D), {}),
    "rosinality": (
        dialects.rosinality(G),
        dialects.rosinality_discriminator(D),
        {"latent_avg": files.T(G["mapping.w_avg"])},
    ),
}
ONES = np.ones(3, np.float32)


def sd(arrays, prefix=""):
    return dialects.state_dict({prefix + name: a for name, a in arrays.items()})


@pytest.fixture
def read(tmp_path):
    def run(root, container=files.torch_zip):
        (tmp_path / "weights").write_bytes(container(root))
        return convert_weights.read(tmp_path / "weights")

    return run


def check(checkpoint, discriminator=False):
    """The generator is whole, and the discriminator where there should be one."""
    wanted = dialects.without_filters(G)
    assert checkpoint.parts.keys() == {"generator", *(["discriminator"] * discriminator)}
    arrays = checkpoint.parts["generator"].arrays
    assert arrays.keys() == wanted.keys()
    for name, array in arrays.items():
        np.testing.assert_allclose(array, wanted[name], rtol=0, atol=3e-7, err_msg=name)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "net.ema_generator."])
@pytest.mark.parametrize("dialect", NAMED)
def test_a_prefix_of_all_names_is_stripped_and_noted(read, dialect, prefix):
    weights, critic, beside = NAMED[dialect]
    alone = weights | ({"latent_avg": G["mapping.w_avg"]} if beside else {})
    files_of = {True: {"g_ema": sd(weights, prefix), "d": sd(critic, prefix)} | beside, False: sd(alone, prefix)}
    for with_critic, root in files_of.items():
        checkpoint = read(root)
        check(checkpoint, with_critic)
        assert any(prefix in note for note in checkpoint.notes)


@pytest.mark.parametrize("key", ["g_ema", "G_ema", "state_dict", "generator_ema", "model", "params_ema", "anything"])
@pytest.mark.parametrize("dialect", NAMED)
def test_a_key_may_have_the_names_of_any_dialect(read, dialect, key):
    weights, _, beside = NAMED[dialect]
    checkpoint = read({key: sd(weights), "iter": 1000} | beside)
    check(checkpoint)
    assert not any("moving average" in note for note in checkpoint.notes)
    usual = {"rosinality": ["g_ema"], "genforce": [], "nvlabs": ["G_ema"]}[dialect]
    assert any(key in note for note in checkpoint.notes) == (key not in usual)


words = st.text("abcxyz_0", min_size=1, max_size=6).filter(lambda word: word not in ROLES)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(words, max_size=3), st.lists(words, max_size=2), st.sampled_from(sorted(NAMED)))
def test_any_nesting_gives_the_same_weights(read, keys, prefix, dialect):
    weights, _, beside = NAMED[dialect]
    root = sd(weights, "".join(f"{word}." for word in prefix))
    if not keys:
        check(read({"g_ema": root} | beside))
        return
    root = {"g_ema": root} | beside
    for key in keys:
        root = {key: root, "other": 3}
    check(read(root))


def test_an_average_is_used_whatever_lies_beside_it(read):
    for dialect, (weights, critic, beside) in NAMED.items():
        other = {name: a + 1 for name, a in weights.items()}
        root = {"g_ema": sd(weights), "g": sd(other), "d": sd(critic), "mean_path_length": files.T(np.float32(0.3))}
        root |= {"f": sd({"x": ONES}), "epoch": 7, "nested": {"deep": {"y": files.T(ONES)}}}
        checkpoint = read(root | beside)
        check(checkpoint, discriminator=True)
        assert checkpoint.ignored.keys() == {"g/*", "mean_path_length", "f/*", "nested/*"}, dialect
        assert checkpoint.ignored["g/*"] == "g_ema, its moving average, is used"


def test_a_lightning_module_has_both_networks_in_one_state_dict(read):
    weights, critic, _ = NAMED["nvlabs"]
    state = {f"g_ema.{n}": a for n, a in weights.items()} | {f"g.{n}": a + 1 for n, a in weights.items()}
    state |= {f"d.{n}": a for n, a in critic.items()} | {"lpips.net.weight": ONES}
    checkpoint = read({"state_dict": sd(state), "epoch": 3})
    check(checkpoint, discriminator=True)
    assert checkpoint.ignored.keys() == {"state_dict/g.*", "state_dict/lpips.*"}


def test_of_several_generators_the_one_to_use_must_be_told(read):
    weights, _, _ = NAMED["nvlabs"]
    with pytest.raises(ConversionError, match="generators under first, second, and the names do not say"):
        read({"first": sd(weights), "second": sd(weights)})
    damaged = {name: a for name, a in weights.items() if name != "synthesis.b4.const"}
    with pytest.raises(ConversionError, match="g_ema, by its name an averaged generator, without"):
        read({"g": sd(weights), "g_ema": sd(damaged)})
    assert "moving average" in read({"g": sd(weights), "d_optim": {"state": {}}}).notes[0]


def test_a_mean_w_under_an_unknown_name_is_not_replaced_by_an_estimate(read):
    weights, _, _ = NAMED["rosinality"]
    for name in ("latent_avh", "my_mean"):
        with pytest.raises(ConversionError, match=f"unknown name {name}; if this is the mean w"):
            read({"g_ema": sd(weights), name: files.T(G["mapping.w_avg"])})
    for name in ("latent_avg", "mean_latent"):
        check(read({"g_ema": sd(weights), name: files.T(G["mapping.w_avg"][None])}))


@pytest.mark.parametrize("dialect", NAMED)
def test_a_discriminator_that_does_not_fit_is_left_out_with_a_note(read, dialect):
    weights, critic, beside = NAMED[dialect]
    name = next(n for n in critic if n.endswith("bias") and critic[n].size > 1)
    for odd in (critic | {name: np.ones(7, np.float32)}, critic | {"b8.extra.weight": ONES}, {"a.b": ONES}):
        checkpoint = read({"g_ema": sd(weights), "d": sd(odd)} | beside)
        check(checkpoint)
        assert any("is not used" in note for note in checkpoint.notes) and "d/*" in checkpoint.ignored


def test_discriminators_of_pickles_that_do_not_fit_are_left_out_too(read):
    facts = files.generator_facts()
    odd = files.nvlabs_discriminator(D | {"b8.extra.weight": ONES})
    checkpoint = read({"G_ema": files.nvlabs(G, "Generator", facts), "D": odd}, files.plain)
    check(checkpoint)
    assert "D.*" in checkpoint.ignored and any("not used" in note for note in checkpoint.notes)
    network = dialects.tensorflow_generator(G)
    d = dialects.tensorflow_discriminator(D, strange=True)
    checkpoint = read((network, d, network), files.plain)
    check(checkpoint)
    assert any("strange" in note for note in checkpoint.notes)


def test_a_discriminator_of_other_pictures_is_left_out(read):
    larger = dialects.rosinality_discriminator(dialects.random_discriminator((3, 2, 2)))
    weights, _, beside = NAMED["rosinality"]
    checkpoint = read({"g_ema": sd(weights), "d": sd(larger)} | beside)
    check(checkpoint)
    assert any("judges pictures of 16 px with 3 channels, the generator makes 8 px" in n for n in checkpoint.notes)


def test_modules_under_other_keys(read):
    facts = files.generator_facts()
    one = files.nvlabs(G, "Generator", facts)
    other = files.nvlabs({n: a + 1 for n, a in G.items()}, "Generator", facts)
    extra = files.module("Helper", {"x": ONES}, {})
    checkpoint = read({"g_ema": one, "G": other, "helper": extra}, files.plain)
    check(checkpoint)
    assert checkpoint.ignored.keys() == {"G.*", "helper.*"} and any("g_ema" in note for note in checkpoint.notes)


def test_other_networks_are_found_in_wrappers(read):
    config = {"widths": [4, 6], "out_channels": 5, "in_channels": 3}
    encoder = {n: np.zeros(s, np.float32) for n, s in basecode.encoder_shapes(config).items()}
    for root in (sd(encoder, "module."), {"state_dict": sd(encoder, "module."), "optimizer": {"state": {}}}):
        checkpoint = read(root)
        assert checkpoint.parts["basecode"].config == config and "module." in checkpoint.notes[0]
    widths = (64, 128, 256, 512, 512)
    lin = {f"lin{k}.model.1.weight": np.ones((1, c, 1, 1), np.float32) for k, c in enumerate(widths)}
    checkpoint = read({"linear": sd(lin), "head": sd({"x": ONES})})
    assert checkpoint.kind == "lpips_lin" and checkpoint.ignored == {"head/*": "not part of the network"}


def test_unknown_files_are_told_what_was_missing_and_where_the_formats_are(read):
    with pytest.raises(ConversionError) as error:
        read({"net": sd({"a.weight": ONES, "b.weight": ONES})})
    text = str(error.value)
    assert all(part in text for part in ("input.input", "synthesis.b4.const", "docs/converting.md", "net"))


def test_dictionaries_that_hold_each_other_many_times_are_refused_soon(read):
    inner = {str(i): 0 for i in range(100)}
    for _ in range(5):
        inner = {str(i): inner for i in range(100)}
    with pytest.raises(ConversionError, match="more than 100000 entries"):
        read(inner)


def test_a_file_of_many_dictionaries_is_searched_in_linear_time(read, monkeypatch):
    root = {f"k{i}": {"a.b.c": files.T(ONES)} for i in range(1500)} | {f"e{i}": {} for i in range(1500)}
    seen = []
    monkeypatch.setattr("convert_weights.structure.shared_prefix", lambda flat: seen.append(len(flat)))
    with pytest.raises(ConversionError, match="docs/converting.md"):
        read(root)
    assert sum(seen) <= 2 * 1500


def test_roles_labels_and_places():
    assert [role(p) for p in ("g_ema/module.", "G/", "x/netD.", "state_dict/decoder.", "")] == [
        "averaged", "plain", "critic", "other", "other",
    ]  # fmt: skip
    names = ["a/b.c", "a/d.e", "f/g/h", "i", "j.k"]
    assert list(labelled(names, ["a/b."])) == ["a/d.*", "f/*", "i", "j.*"]
    assert places(["x.input.input", "my_input.input", "input.input"], ["input.input"]) == ["x.", ""]
    assert len({row.name for row in DIALECTS}) == len(DIALECTS)
