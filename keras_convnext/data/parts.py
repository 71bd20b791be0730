"""The parts of data sets: one to train on, and one to hold out."""

# What the parts are called, as folders, as splits of TFDS and of lists, in
# letters of any case; of several the first counts.
NAMES = {
    "train": ("train", "training"),
    "validation": (
        "val",
        "validation",
        "valid",
        "dev",
        "eval",
        "test",
        "testing",
    ),
}


def opened(parts, part, data):
    """One of the parts, or the whole where there are none."""
    open_part = parts.get(part) or parts.get("")
    if open_part is None:
        raise ValueError(
            f"Expected data with a part for {part}, called one of "
            f"{', '.join(NAMES[part])}. Received: {str(data)!r} with one for "
            f"{' and '.join(parts)} alone. Pass what is in it"
        )
    return open_part()


def by_part(names):
    """The first name of each part that is among `names`."""
    # Of names that differ in case alone the last in order is in small letters.
    by_alias = {name.lower(): name for name in sorted(names)}
    parts = {}
    for part, aliases in NAMES.items():
        for alias in aliases:
            if alias in by_alias:
                parts.setdefault(part, by_alias[alias])
    return parts
