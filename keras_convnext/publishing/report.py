"""What was published, and how far it is the model."""

from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras_convnext._util.tables import new_console


@dataclass(frozen=True)
class Published:
    """One layout of a model, written and compared.

    Attributes:
        layout: `"keras"`, `"timm"` or `"transformers"`.
        place: path of the folder, or `hf://owner/name`.
        files: names of what is there.
        size_bytes: of all files.
        license: id, or `None` if none is known.
        opened_by: the library that opened it, with its version; `None`
            without verification.
        images: how many were compared; 0 without verification.
        difference: largest of any logit (or number), from equal pixels.
        bound: what `difference` may be.
        pixels: largest mean difference between an image as the library reads
            it and as we do, in levels of 0–255; 0 means equal bit for bit.
        aside: in how many images its crop begins one pixel aside.
        agreement: part of the images whose best class is the same by the
            library's own pixels; `None` where it has no pipeline.
    """

    layout: str
    place: str
    files: list[str]
    size_bytes: int
    license: str | None = None
    opened_by: str | None = None
    images: int = 0
    difference: float | None = None
    bound: float | None = None
    pixels: float | None = None
    aside: int | None = None
    agreement: float | None = None

    def with_files(self, folder: Path) -> "Published":
        """The same, with what is in a folder."""
        files = sorted(x for x in folder.rglob("*") if x.is_file())
        return replace(
            self,
            files=[x.relative_to(folder).as_posix() for x in files],
            size_bytes=sum(x.stat().st_size for x in files),
        )

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON can hold them."""
        return asdict(self)


def print_reports(reports):
    """Prints a table of `Published`."""
    from rich.table import Table

    def text(value, form):
        return "–" if value is None else format(value, form)

    rows = [
        {
            "layout": x.layout,
            "opened by": x.opened_by or "–",
            "max diff": text(x.difference, ".1e"),
            "allowed": text(x.bound, ".1e"),
            "pixels": text(x.pixels, ".2g"),
            "top-1": text(x.agreement, ".0%"),
            "images": str(x.images),
            "MB": f"{x.size_bytes / 1e6:.2f}",
        }
        for x in reports
    ]
    table = Table()
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    new_console().print(table)
