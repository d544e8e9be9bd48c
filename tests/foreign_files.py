"""Writers of foreign checkpoint files, byte for byte as torch, dnnlib and numpy lay them out, without any of those
classes.

`_Pickler` of the standard library is taught to write globals that do not exist here; tensors become numpy arrays
marked by `T`. The containers: `plain` (NVlabs, TensorFlow), `torch_zip`, `torch_legacy`.
"""

import io
import math
import pickle
import struct
import zipfile

import numpy as np

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
CLASSES = {"f4": "Float", "f2": "Half", "f8": "Double", "i8": "Long", "i4": "Int", "u1": "Byte", "b1": "Bool"}


class Ref:
    """A global by name, whether it exists or not."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Obj:
    """REDUCE (or NEWOBJ) of a Ref with arguments, then SETITEMS and BUILD."""

    def __init__(self, ref, args=(), new=False, items=None, state=None):
        self.ref, self.args, self.new, self.items, self.state = ref, args, new, items, state


class T:
    """A torch tensor with the memory of `array` (non-contiguous arrays keep their strides); bfloat16 as raw uint16."""

    def __init__(self, array, parameter=False, **override):
        self.array, self.parameter, self.override = np.asarray(array), parameter, override
        self.bfloat16 = override.pop("bfloat16", False)


class Storage:
    def __init__(self, key, data, name, numel):
        self.key, self.data, self.name, self.numel = key, data, name, numel


class Pickler(pickle._Pickler):
    """Writes Ref, Obj and T; `store` turns raw memory into whatever the container refers to storages by."""

    dispatch = dict(pickle._Pickler.dispatch)

    def __init__(self, file, protocol, store):
        super().__init__(file, protocol)
        self.store = store
        self.alive = []  # memo is by id(): objects made on the way must not be freed

    def keep(self, value):
        self.alive.append(value)
        return value

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        return ("storage", self.keep(Ref("torch", value.name)), value.key, "cuda:0", value.numel)[
            :5
        ] + self.legacy_tail()

    def legacy_tail(self):
        return ()

    def save_ref(self, ref):
        if self.proto >= 4:
            self.save(ref.module)
            self.save(ref.name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(b"c" + f"{ref.module}\n{ref.name}\n".encode())
        self.memoize(ref)

    def save_obj(self, obj):
        self.save(obj.ref)
        self.save(self.keep(obj.args))
        self.write(pickle.NEWOBJ if obj.new else pickle.REDUCE)
        self.memoize(obj)
        if obj.items:
            self.write(pickle.MARK)
            for key, value in obj.items.items():
                self.save(key)
                self.save(value)
            self.write(pickle.SETITEMS)
        if obj.state is not None:
            self.save(self.keep(obj.state))
            self.write(pickle.BUILD)

    def save_t(self, tensor):
        array = tensor.array
        base = array.base if array.base is not None and array.base.dtype == array.dtype else array
        raw = base.tobytes("A") if base.flags.forc else base.tobytes()
        name = ("BFloat16" if tensor.bfloat16 else CLASSES[array.dtype.str[1:]]) + "Storage"
        facts = {"offset": 0, "size": array.shape, "stride": tuple(s // array.itemsize for s in array.strides)}
        facts |= {"numel": base.size} | tensor.override
        storage = self.keep(self.store(id(base), raw, name, facts["numel"]))
        hooks = self.keep(Obj(Ref("collections", "OrderedDict")))
        args = (storage, facts["offset"], facts["size"], facts["stride"], False, hooks)
        made = self.keep(Obj(Ref("torch._utils", "_rebuild_tensor_v2"), args))
        if tensor.parameter:
            made = self.keep(Obj(Ref("torch._utils", "_rebuild_parameter"), (made, False, hooks)))
        self.save(made)

    def save_array(self, array):
        made = Obj(Ref("numpy.core.multiarray", "_reconstruct"), (Ref("numpy", "ndarray"), (0,), b"b"))
        made.state = (1, array.shape, dtype_of(array.dtype), False, array.tobytes())
        self.save(self.keep(made))

    def save_scalar(self, value):
        args = (dtype_of(value.dtype), value.tobytes())
        self.save(self.keep(Obj(Ref("numpy._core.multiarray", "scalar"), args)))

    dispatch |= {Ref: save_ref, Obj: save_obj, T: save_t, np.ndarray: save_array}
    dispatch |= {np.float32: save_scalar, np.float64: save_scalar}


class LegacyPickler(Pickler):
    def legacy_tail(self):
        return (None,)


def dtype_of(dtype):
    state = (3, "<", None, None, None, -1, -1, 0)
    return Obj(Ref("numpy", "dtype"), (np.dtype(dtype).str[1:], False, True), state=state)


def blob(raw, name, numel, value=None):
    """What `torch.storage._load_from_bytes` is given: a legacy file of one storage (or of `value`)."""
    out = io.BytesIO()
    for part in (LEGACY_MAGIC, 1001, SYSTEM):
        pickle.dump(part, out, 2)
    LegacyPickler(out, 2, None).dump(Storage("0", raw, name, numel) if value is None else value)
    pickle.dump(["0"] if value is None else [], out, 2)
    return out.getvalue() + (struct.pack("<q", numel) + raw if value is None else b"")


def plain(value, protocol=4):
    """A plain pickle whose tensors hold their storages as embedded legacy blobs."""
    out = io.BytesIO()
    kept = []

    def store(key, raw, name, numel):
        kept.append(Obj(Ref("torch.storage", "_load_from_bytes"), (blob(raw, name, numel),)))
        return kept[-1]

    Pickler(out, protocol, store).dump(value)
    return out.getvalue()


def _collector():
    storages = {}

    def store(key, raw, name, numel):
        return storages.setdefault(key, Storage(str(len(storages)), raw, name, numel))

    return storages, store


def torch_zip(value, root="archive", compression=zipfile.ZIP_STORED, **members):
    """torch.save of torch ≥ 1.6."""
    storages, store = _collector()
    body, out = io.BytesIO(), io.BytesIO()
    Pickler(body, 2, store).dump(value)
    content = {"data.pkl": body.getvalue(), "byteorder": b"little", "version": b"3\n"} | members
    with zipfile.ZipFile(out, "w", compression) as z:
        for name, data in content.items():
            z.writestr(f"{root}/{name}", data)
        for storage in storages.values():
            z.writestr(f"{root}/data/{storage.key}", storage.data)
    return out.getvalue()


def torch_legacy(value):
    """torch.save before torch 1.6."""
    storages, store = _collector()
    out = io.BytesIO()
    for part in (LEGACY_MAGIC, 1001, SYSTEM):
        pickle.dump(part, out, 2)
    LegacyPickler(out, 2, store).dump(value)
    pickle.dump([s.key for s in storages.values()], out, 2)
    tail = b"".join(struct.pack("<q", s.numel) + s.data for s in storages.values())
    return out.getvalue() + tail


def npz(arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def ordered(items, metadata=True):
    """An OrderedDict as state_dict() returns it, with torch's `_metadata` attribute."""
    items = {k: T(v) if isinstance(v, np.ndarray) else v for k, v in items.items()}
    state = {"_metadata": Obj(Ref("collections", "OrderedDict"))} if metadata else None
    return Obj(Ref("collections", "OrderedDict"), items=items, state=state)


def easy_dict(items):
    return Obj(Ref("dnnlib.util", "EasyDict"), new=True, items=items)


# ---------------------------------------------------------------------------------------------------------------------
# NVlabs networks

SOURCE = "raise SystemExit('the source text of a pickled module was executed')\n" * 40
BUFFERS = ("resample_filter", "noise_const", "w_avg")


def module(class_name, tensors, children, **attributes):
    """A persistent module; `tensors` by name, sorted into parameters and buffers."""
    state = {"training": False, "_parameters": ordered({}, False), "_buffers": ordered({}, False)}
    parameters = {n: T(a, parameter=True) for n, a in tensors.items() if n not in BUFFERS}
    buffers = {n: T(a) for n, a in tensors.items() if n in BUFFERS}
    state["_parameters"].items, state["_buffers"].items = parameters, buffers
    names = Ref("__builtin__", "set")
    state |= {"_non_persistent_buffers_set": Obj(names, ([],)), "_modules": ordered(children, False), **attributes}
    meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": class_name, "state": state}
    return Obj(Ref("torch_utils.persistence", "_reconstruct_persistent_obj"), (meta,))


def nvlabs(state_dict, name, facts, path="", extra=None):
    """The module tree of a flat state_dict. `facts`: attributes by role ("root", "mapping", "fc", "layer", "block")."""
    own = {n: a for n, a in state_dict.items() if "." not in n}
    groups = {}
    for full, array in state_dict.items():
        head, _, rest = full.partition(".")
        if rest:
            groups.setdefault(head, {})[rest] = array
    children = {h: nvlabs(g, class_of(h), facts, f"{path}.{h}".lstrip("."), None) for h, g in groups.items()}
    role = "root" if not path else role_of(path)
    return module(name, own, children | (extra or {}), **facts.get(role, {}))


def class_of(head):
    table = {"mapping": "MappingNetwork", "synthesis": "SynthesisNetwork", "torgb": "ToRGBLayer"}
    return table.get(head, "SynthesisBlock" if head[0] == "b" else "SynthesisLayer")


def role_of(path):
    last = path.rpartition(".")[2]
    if last in ("affine", "embed"):
        return "affine"
    if last in ("mapping", "synthesis", "skip"):
        return last
    return "fc" if last.startswith("fc") and path.startswith("mapping") else "block" if last[0] == "b" else "layer"


def generator_facts(architecture="skip", clamp=None, use_noise=True, lr=0.01, stylegan3=False, **root):
    gain = np.float64(math.sqrt(2))
    fc = {"activation": "lrelu", "bias_gain": lr, "weight_gain": np.float64(lr / 8)}
    layer = {"use_noise": use_noise, "activation": "lrelu", "conv_clamp": clamp, "act_gain": gain}
    return {
        "root": {**root, "_init_args": (), "_init_kwargs": easy_dict({})},
        "mapping": {"num_layers": 8, "w_avg_beta": 0.995},
        "synthesis": {"num_fp16_res": 4} if stylegan3 else {},
        "block": {"architecture": architecture, "use_fp16": False},
        "layer": layer,
        "fc": fc,
        "affine": fc | {"activation": "linear", "bias_gain": 1.0},
    }


def discriminator_facts(architecture="resnet", clamp=None, lr=0.01, **root):
    facts = generator_facts(architecture, clamp, lr=lr, **root)
    facts["layer"] = {"activation": "lrelu", "conv_clamp": clamp, "bias_gain": 1}
    return facts


def nvlabs_discriminator(state_dict, group=4, channels=1, name="Discriminator", **facts):
    """A discriminator; its minibatch-stddev layer has no tensors and is added to b4."""
    spread = {"mbstd": module("MinibatchStdLayer", {}, {}, group_size=group, num_channels=channels)}
    made = nvlabs(state_dict, name, discriminator_facts(**facts))
    made.args[0]["state"]["_modules"].items["b4"].args[0]["state"]["_modules"].items |= spread
    return made


def tf_network(variables, kwargs, version=4, components=None):
    """A dnnlib.tflib Network; numpy scalars and arrays as TensorFlow's session returns them."""
    state = {
        "version": version,
        "name": "G",
        "static_kwargs": easy_dict(kwargs),
        "components": easy_dict(components or {}),
        "build_module_src": SOURCE,
        "build_func_name": "G_main",
        "variables": [(n, np.float32(a) if np.ndim(a) == 0 else np.ascontiguousarray(a)) for n, a in variables.items()],
    }
    return Obj(Ref("dnnlib.tflib.network", "Network"), new=True, state=state)
