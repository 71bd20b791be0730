"""What a compiled program does, read from the text that XLA prints of it."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace

# `%name = type opcode(operands), attributes`; types have no space before "(".
INSTRUCTION = re.compile(
    r"^\s*(?:ROOT )?%?([\w.-]+) = (.+?) ([a-z][\w-]*)\((.*)$"
)
# A type with dimensions, the order of them from the minor one on, and tiles.
SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](?:\{([\d,]*)(?::([^}]*))?\})?")
OPERANDS = re.compile(r"%([\w.-]+)")
LABEL = re.compile(r'op_name="([^"]*)"')
GROUPS = re.compile(r"replica_groups=(?:\{\{([\d,]*)\}|\[\d+,(\d+)\])")
CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
BITS = re.compile(r"\d+")
KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
# Names for what is there already.
FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast")
PREFETCHES = ("copy-start", "slice-start")
# A memory space other than that beside the chip: S(1) is on it.
ON_CHIP = re.compile(r"S\([1-9]")


@dataclass(frozen=True)
class Shape:
    """An array of a program.

    Attributes:
        size: bytes of its numbers.
        padded: bytes that its layout takes.
        is_on_chip: whether it lies in the chip's own memory.
    """

    size: int
    padded: int
    is_on_chip: bool


@dataclass(frozen=True)
class Instruction:
    """One line of a program.

    Attributes:
        name, opcode: strs.
        shapes: tuple of `Shape`, of its results.
        operands: names of instructions.
        label: the path of layers and operations that it is of; may be empty.
        text: the whole line.
    """

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    label: str
    text: str


@dataclass(frozen=True)
class Traffic:
    """What one instruction takes.

    Attributes:
        opcode, label: as of `Instruction`.
        padded: bytes between chip and memory, as laid out.
        size: bytes of the numbers among them.
        cycles: of the chip, as TPUs' compiler estimates; 0 if it does not.
    """

    opcode: str
    label: str
    padded: int
    size: int
    cycles: int


@dataclass(frozen=True)
class Collective:
    """Exchanges of one kind among groups of one size.

    Attributes:
        kind: `"all-reduce"` and so on.
        devices: int, in each group.
        count: int, instructions.
        size: bytes of the results of all of them on one device.
    """

    kind: str
    devices: int
    count: int
    size: int

    @property
    def sent(self) -> float:
        """Bytes that a device sends, by the best algorithm of a ring."""
        if self.kind == "collective-permute":
            return self.size
        part = (self.devices - 1) / self.devices
        if self.kind == "all-reduce":
            return 2 * part * self.size
        if self.kind == "reduce-scatter":  # the operand is that much larger
            return part * self.size * self.devices
        return part * self.size


def collectives(text: str, devices: int) -> list[Collective]:
    """The exchanges of a program, the largest first.

    A loop's count once.

    Args:
        text: of a compiled program.
        devices: int, of a group that the text does not name: all of them.
    """
    found: dict[tuple[str, int], list[int]] = {}
    for instruction in instructions(text):
        kind = instruction.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        shapes = instruction.shapes
        # Begun apart, these list what they are given before what they give.
        if instruction.opcode.endswith("-start") and kind != "all-reduce":
            shapes = shapes[len(shapes) // 2 :][: len(instruction.operands)]
        size = sum(shape.size for shape in shapes)
        group = _group(instruction.text, devices)
        found.setdefault((kind, group), []).append(size)
    every = [
        Collective(kind, group, len(sizes), sum(sizes))
        for (kind, group), sizes in found.items()
    ]
    return sorted(every, key=lambda one: -one.size)


def traffic(text: str) -> list[Traffic]:
    """What each instruction of the main computation moves and takes.

    Arrays on the chip are free. What loops and branches do inside is left out.
    """
    lines = list(instructions(text[text.index("ENTRY ") :]))
    by_name = {line.name: line for line in lines}
    rows = []
    for line in lines:
        if line.opcode in FREE or line.opcode.endswith("-done"):
            continue
        shapes = list(line.shapes)
        if line.opcode in PREFETCHES:
            # Source, target and a counter: all that moves is the target.
            least = min(shape.padded for shape in shapes[:2])
            shapes = [x for x in shapes[:2] if x.padded == least][:1]
            shapes = [replace(shape, is_on_chip=False) for shape in shapes]
        else:
            for name in line.operands:
                if name in by_name and by_name[name].opcode != "tuple":
                    shapes += by_name[name].shapes[:1]
        moved = [shape for shape in shapes if not shape.is_on_chip]
        cycles = CYCLES.search(line.text)
        rows.append(
            Traffic(
                line.opcode,
                line.label,
                sum(shape.padded for shape in moved),
                sum(shape.size for shape in moved),
                int(cycles[1]) if cycles else 0,
            )
        )
    return rows


def instructions(text: str) -> Iterator[Instruction]:
    """The instructions of a program, those of fusions among them."""
    for line in text.splitlines():
        match = INSTRUCTION.match(line)
        if not match:
            continue
        name, types, opcode, rest = match.groups()
        operands = re.split(r"\)(?:, |$)", rest, maxsplit=1)[0]
        label = LABEL.search(rest)
        yield Instruction(
            name,
            opcode,
            tuple(map(_shape, SHAPE.finditer(types))),
            tuple(OPERANDS.findall(operands)),
            label[1] if label else "",
            line,
        )


def _shape(match):
    kind, sides, order, layout = match.groups()
    sides = [int(side) for side in sides.split(",") if side]
    order = [int(axis) for axis in (order or "").split(",") if axis]
    bits = 8 if kind == "pred" else int((BITS.search(kind) or ["0"])[0])
    tiled = re.match(r"T\(([\d,]+)\)", layout or "")
    laid_out = list(sides)
    if tiled and order:
        # The last of a tile lies along the minor axis.
        tile = reversed([int(side) for side in tiled[1].split(",")])
        for axis, side in zip(order, tile):
            laid_out[axis] = math.ceil(sides[axis] / side) * side
    return Shape(
        math.prod(sides) * bits // 8,
        math.prod(laid_out) * bits // 8,
        bool(ON_CHIP.search(layout or "")),
    )


def _group(text, devices):
    """How many devices exchange with each other."""
    match = GROUPS.search(text)
    if not match:
        return devices
    listed, counted = match.groups()
    return int(counted) if counted else len(listed.split(",")) or devices
