"""What a pickle may cost: its steps, its depth, its keys, and what it hands over again and again."""

import dataclasses

from convert_weights.checkpoint import ConversionError, shown

MAX_STEPS = 1_000_000
MAX_MARKS = 500
MAX_INTEGER_BYTES = 16
MAX_TEXT = 2**24
MAX_KEY = 2**63  # beyond it, any number of integers can share one hash, and a dict of them takes quadratic time
KEY_TYPES = (str, int, bool, float, bytes, type(None))
SIZED = (str, bytes, memoryview, list, dict)


@dataclasses.dataclass(slots=True, kw_only=True)
class Budget:
    """The work that reading one file may take, the streams inside it included.

    Attributes:
        steps: opcodes.
        handled: bytes, characters and entries that are handed to builders, which may copy them; a stream can hand over
            the same object again and again.
    """

    steps: int = MAX_STEPS
    handled: int

    @classmethod
    def of(cls, data: memoryview) -> "Budget":
        """For a file with these bytes: writers hand everything over once."""
        return cls(handled=4 * len(data) + 4096)

    def hand_over(self, values: tuple) -> None:
        """Counts the arguments of a builder."""
        self.handled -= sum(len(value) for value in values if isinstance(value, SIZED))
        if self.handled < 0:
            raise ConversionError("its pickle hands the same objects over again and again; refused as hostile")


def check_key(key: object) -> None:
    """Refuses what cannot be a key of a dict, or a member of a set, that takes linear time.

    Raises:
        TypeError, ConversionError: it is an object, or an integer beyond 64 bits.
    """
    if type(key) not in KEY_TYPES:
        raise TypeError("a key that is neither text nor number")
    if type(key) is int and not -MAX_KEY <= key < MAX_KEY:
        raise ConversionError(f"its pickle has the integer key {shown(key)} beyond 64 bits; the file is hostile")
