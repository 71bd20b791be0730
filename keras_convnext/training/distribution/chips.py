"""TPUs by the figures that Google publishes: one row for each."""

from dataclasses import dataclass

_DOCS = "https://docs.cloud.google.com/tpu/docs/"


@dataclass(frozen=True)
class Chip:
    """What one chip can do at best.

    Attributes:
        name: as topologies begin.
        flops: float, of bfloat16 per second; a multiply-add is two.
        memory: int, bytes.
        bandwidth: float, bytes per second between chip and memory.
        interconnect: float, bytes per second to all neighbors together, each
            way: half of the figure that is published for both.
        source: address of the figures, which were read in November 2026.
    """

    name: str
    flops: float
    memory: int
    bandwidth: float
    interconnect: float
    source: str


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v5e", 197e12, 16 * 2**30, 819e9, 200e9, f"{_DOCS}v5e"),
        Chip("v5p", 459e12, 95 * 2**30, 2765e9, 600e9, f"{_DOCS}v5p"),
        Chip("v6e", 918e12, 32 * 2**30, 1638e9, 400e9, f"{_DOCS}v6e"),
    )
}
