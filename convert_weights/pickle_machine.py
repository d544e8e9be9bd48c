"""A reader of pickle streams that executes nothing.

Python's own unpickler imports what a stream names and calls it; an allow-list on top of it still calls real classes.
This machine interprets the opcodes itself: a global becomes an inert `Global` if its name is on the allow-list and an
error otherwise, and REDUCE, NEWOBJ and BUILD only look its name up in a table of pure functions. Byte strings are
slices of the file, never copies, so no size that a stream claims is ever allocated. Depth, counts and keys are bounded,
and so is the work: a `Budget` is shared by a stream and the streams inside it.

A pickle has no checksum: damage to structure is noticed (unknown opcodes, duplicate keys, sizes that do not fit), a
flipped bit inside the raw values of a weight is not, unless the value becomes non-finite.
"""

import dataclasses
import struct
from collections.abc import Callable, Mapping

from convert_weights.checkpoint import ConversionError, shown
from convert_weights.pickle_limits import MAX_INTEGER_BYTES, MAX_MARKS, MAX_STEPS, MAX_TEXT, Budget, check_key

DAMAGED = (IndexError, KeyError, TypeError, ValueError, OverflowError, AttributeError, UnicodeError, struct.error)


@dataclasses.dataclass(frozen=True, slots=True)
class Global:
    """A class or function that a stream names; it stands for nothing but its name."""

    name: str


@dataclasses.dataclass(slots=True, eq=False)
class Node:
    """A passive object: the name of its class and whatever state the stream gives it."""

    name: str
    state: object = None


class Stateful:
    """Base of objects that take part of their content from a BUILD opcode."""

    __slots__ = ()

    def set_state(self, state: object) -> None:
        """Takes the state; raises TypeError or ConversionError where it makes no sense."""
        raise TypeError("no state expected")


Builder = Callable[[tuple], object]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """The globals that a stream may name.

    Attributes:
        builders: global name -> pure function of the REDUCE (or NEWOBJ) arguments; None if it is only referred to.
        advice: global name or "module." prefix -> what to tell the user instead of the general refusal.
        persistent: from a persistent id to the object it stands for; None if the container has no such ids.
        budget: shared with other streams of the file; None is a stream alone.
    """

    builders: Mapping[str, Builder | None]
    advice: Mapping[str, str] = dataclasses.field(default_factory=dict)
    persistent: Callable[[object], object] | None = None
    budget: Budget | None = None


def load(data: memoryview, rules: Rules, start: int = 0) -> tuple[object, int]:
    """Reads one pickle.

    Args:
        data: the bytes; results keep slices of them.
        rules: what the stream may name.
        start: where the pickle begins.
    Returns:
        the object and the offset behind its STOP.
    Raises:
        ConversionError: naming a refused global, or saying where the stream is damaged.
    """
    machine = _Machine(data, rules, start)
    try:
        return machine.run(), machine.at
    except ConversionError:
        raise
    except DAMAGED as error:
        reason = f"{type(error).__name__} at byte {machine.at}"
        raise ConversionError(f"its pickle is damaged or truncated ({reason}); fetch the file again") from None


class _Machine:
    def __init__(self, data: memoryview, rules: Rules, start: int):
        self.data, self.rules, self.at, self.start = data, rules, start, start
        self.budget = rules.budget or Budget.of(data)
        self.stack: list = []
        self.marks: list[list] = []
        self.memo: dict[int, object] = {}
        self.frame_end, self.memo_from = start, 0

    def run(self) -> object:
        while self.budget.steps > 0:
            self.budget.steps -= 1
            inside = self.at < self.frame_end
            code = self.take(1)[0]
            if code == 0x2E:  # STOP
                if len(self.stack) != 1 or self.marks or self.at < self.frame_end:
                    raise ValueError("objects left over")
                return self.stack[0]
            step = OPCODES.get(code)
            if step is None:
                raise ConversionError(
                    f"its pickle has opcode 0x{code:02x} at byte {self.at - 1}, which no supported writer uses; "
                    "the file is damaged"
                )
            step(self)
            if inside and self.at > self.frame_end:
                raise ValueError("an object crosses the end of its frame")
        raise ConversionError(f"its pickle has more than {MAX_STEPS} steps; refused as hostile")

    def take(self, count: int) -> memoryview:
        """The next `count` bytes, as a slice that is checked against the end."""
        part = self.data[self.at : self.at + count]
        if len(part) != count:
            raise ConversionError(
                f"its pickle ends early: {count} bytes are announced at byte {self.at}, {len(part)} are there; "
                "fetch the file again"
            )
        self.at += count
        return part

    def protocol(self, version: int) -> None:
        if not 2 <= version <= 5 or self.at != self.start + 2:
            raise ConversionError(f"its pickle has protocol {version} at byte {self.at - 1}; the file is damaged")

    def frame(self, count: int) -> None:
        if self.at - 9 < self.frame_end or count > len(self.data) - self.at:
            raise ConversionError(
                f"its pickle has a frame of {count} bytes that does not fit at byte {self.at}; fetch the file again"
            )
        self.frame_end = self.at + count

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def text(self, count: int) -> str:
        if count > MAX_TEXT:
            raise ConversionError(
                f"its pickle claims a text of {count} bytes at byte {self.at}; the file is damaged or hostile"
            )
        return str(self.take(count), "utf-8", "surrogatepass")

    def line(self) -> str:
        for length in range(256):
            if self.data[self.at + length] == 0x0A:
                value = str(self.take(length), "utf-8")
                self.at += 1
                return value
        raise ValueError("a name without an end")

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> object:
        return self.stack.pop()

    def mark(self) -> None:
        if len(self.marks) >= MAX_MARKS:
            raise ConversionError(f"its pickle nests deeper than {MAX_MARKS} levels; refused as hostile")
        self.marks.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def pair(self) -> list:
        """The two objects on top, lower one first."""
        if len(self.stack) < 2:
            raise IndexError("too few objects")
        items = self.stack[-2:]
        del self.stack[-2:]
        return items

    def find(self, module: object, name: object) -> None:
        if type(module) is not str or type(name) is not str:
            raise TypeError("a global is named by text")
        full = f"{module}.{name}"
        if full not in self.rules.builders:
            raise ConversionError(refusal(full, self.at, self.rules.advice))
        self.push(Global(full))

    def call(self, target: object, args: object) -> None:
        if type(target) is not Global or type(args) is not tuple:
            raise TypeError("only an allowed global is called")
        builder = self.rules.builders[target.name]
        if builder is None:
            raise ConversionError(
                f"its pickle calls {shown(target.name)}, which writers only refer to; the file is hostile"
            )
        self.budget.hand_over(args)
        self.push(builder(args))

    def set_items(self, flat: list) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(flat) % 2:
            raise TypeError("items of something that is no dict")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            check_key(key)
            if key in target:
                raise ConversionError(
                    f"its pickle sets key {shown(key)} twice before byte {self.at}; the file is damaged"
                )
            target[key] = value

    def append(self, items: list) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise TypeError("elements of something that is no list")
        target.extend(items)

    def add(self, items: list) -> None:
        target = self.stack[-1]
        if type(target) is not set:
            raise TypeError("members of something that is no set")
        for item in items:
            check_key(item)
        target.update(items)

    def build(self, state: object) -> None:
        target = self.stack[-1]
        self.budget.hand_over(state if type(state) is tuple else (state,))
        if type(target) is dict:
            # torch puts its version numbers on an OrderedDict's attributes; weights are never there
            if type(state) is not dict or set(state) - {"_metadata"}:
                raise TypeError("attributes on a dict")
        elif isinstance(target, Stateful):
            target.set_state(state)
        elif type(target) is Node and target.state is None:
            target.state = state
        else:
            raise TypeError("state for something that has none")

    def persistent(self, pid: object) -> None:
        if self.rules.persistent is None:
            raise ConversionError(
                f"its pickle has a persistent id before byte {self.at}, which this container does not use; the "
                "file is damaged"
            )
        self.push(self.rules.persistent(pid))

    def integer(self, count: int) -> None:
        if count > MAX_INTEGER_BYTES:
            raise ConversionError(
                f"its pickle has an integer of {count} bytes at byte {self.at}; the file is damaged or hostile"
            )
        self.push(int.from_bytes(self.take(count), "little", signed=True))

    def latin(self, count: int) -> None:
        """A Python 2 string: text where it is ASCII, else bytes."""
        raw = self.take(count)
        self.push(str(raw, "ascii") if count <= MAX_TEXT and bytes(raw).isascii() else raw)

    def new(self, empty: dict | set, fill: Callable[[list], None], items: list) -> None:
        self.push(empty)
        fill(items)

    def last(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError("too few objects for a tuple")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def remember(self, index: int) -> None:
        # writers count from 0 (Python 2: from 1); a gap means that earlier bytes are missing or were added
        if index != len(self.memo) + self.memo_from and not (index == 1 and not self.memo):
            raise ConversionError(
                f"its pickle skips an object before byte {self.at}; the file is damaged, fetch it again"
            )
        self.memo_from = index - len(self.memo)
        self.memo[index] = self.stack[-1]


def refusal(name: str, at: int, advice: Mapping[str, str]) -> str:
    """The message for a global that is not on the allow-list."""
    for prefix, text in advice.items():
        if name == prefix or (prefix.endswith(".") and name.startswith(prefix)):
            return f"its pickle asks for {shown(name)}: {text}"
    return (
        f"its pickle asks for {shown(name)} (at byte {at}), which is not needed to read weights and is never run "
        "here; do not load "
        "this file elsewhere unless you trust it, or ask its author for a plain state dict"
    )


OPCODES: dict[int, Callable[[_Machine], object]] = {
    0x80: lambda m: m.protocol(m.number(1)),
    0x95: lambda m: m.frame(m.number(8)),
    0x28: _Machine.mark,
    0x30: lambda m: m.pop(),
    0x31: lambda m: m.pop_mark(),
    0x32: lambda m: m.push(m.stack[-1]),  # DUP
    0x4E: lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    0x4A: lambda m: m.push(int.from_bytes(m.take(4), "little", signed=True)),  # BININT
    0x4B: lambda m: m.push(m.number(1)),
    0x4D: lambda m: m.push(m.number(2)),
    0x8A: lambda m: m.integer(m.number(1)),  # LONG1
    0x8B: lambda m: m.integer(m.number(4)),  # LONG4
    0x47: lambda m: m.push(struct.unpack(">d", m.take(8))[0]),  # BINFLOAT
    0x58: lambda m: m.push(m.text(m.number(4))),  # BINUNICODE
    0x8C: lambda m: m.push(m.text(m.number(1))),
    0x8D: lambda m: m.push(m.text(m.number(8))),
    0x54: lambda m: m.latin(m.number(4)),  # BINSTRING
    0x55: lambda m: m.latin(m.number(1)),
    0x42: lambda m: m.push(m.take(m.number(4))),  # BINBYTES
    0x43: lambda m: m.push(m.take(m.number(1))),
    0x8E: lambda m: m.push(m.take(m.number(8))),
    0x5D: lambda m: m.push([]),
    0x7D: lambda m: m.push({}),
    0x29: lambda m: m.push(()),
    0x8F: lambda m: m.push(set()),
    0x61: lambda m: m.append([m.pop()]),  # APPEND
    0x65: lambda m: m.append(m.pop_mark()),  # APPENDS
    0x73: lambda m: m.set_items(m.pair()),  # SETITEM
    0x75: lambda m: m.set_items(m.pop_mark()),  # SETITEMS
    0x90: lambda m: m.add(m.pop_mark()),  # ADDITEMS
    0x91: lambda m: m.new(set(), m.add, m.pop_mark()),  # FROZENSET
    0x6C: lambda m: m.push(m.pop_mark()),  # LIST
    0x64: lambda m: m.new({}, m.set_items, m.pop_mark()),  # DICT
    0x74: lambda m: m.push(tuple(m.pop_mark())),  # TUPLE
    0x85: lambda m: m.last(1),
    0x86: lambda m: m.last(2),
    0x87: lambda m: m.last(3),
    0x71: lambda m: m.remember(m.number(1)),  # BINPUT
    0x72: lambda m: m.remember(m.number(4)),
    0x94: lambda m: m.remember(len(m.memo)),  # MEMOIZE
    0x68: lambda m: m.push(m.memo[m.number(1)]),  # BINGET
    0x6A: lambda m: m.push(m.memo[m.number(4)]),
    0x63: lambda m: m.find(m.line(), m.line()),  # GLOBAL
    0x93: lambda m: m.find(*m.pair()),  # STACK_GLOBAL
    0x52: lambda m: m.call(*m.pair()),  # REDUCE
    0x81: lambda m: m.call(*m.pair()),  # NEWOBJ
    0x62: lambda m: m.build(m.pop()),  # BUILD
    0x51: lambda m: m.persistent(m.pop()),  # BINPERSID
}
