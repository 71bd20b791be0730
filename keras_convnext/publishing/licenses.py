"""Which license a model may have, by that of the weights it began with."""

from keras_convnext.weights.registry import FREE_LICENSES

# Ids of the hub, https://huggingface.co/docs/hub/repositories-licenses: those
# that a model of images is likely to have.
NON_COMMERCIAL = (
    *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0"),
    *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    *("cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
    "fair-noncommercial-research-license",
)
IDS = (
    *("apache-2.0", "mit", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd"),
    *("bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "cc", "cc0-1.0"),
    *("cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0"),
    *("cc-by-sa-4.0", "cc-by-nd-4.0", "creativeml-openrail-m"),
    *("bigscience-openrail-m", "openrail", "openrail++", "epl-1.0", "epl-2.0"),
    *("eupl-1.1", "eupl-1.2", "agpl-3.0", "gpl", "gpl-2.0", "gpl-3.0", "lgpl"),
    *("lgpl-2.1", "lgpl-3.0", "isc", "mpl-2.0", "ms-pl", "osl-3.0"),
    *("unlicense", "wtfpl", "zlib", "odbl", "pddl", "unknown", "other"),
    *NON_COMMERCIAL,
)
# Of weights that the package knows, and no ids of the hub.
NAMED = ("dinov3-license",)


def license_of(inherited, chosen):
    """The license that a model is published under, or `None`.

    Args:
        inherited: id of the license of the weights at the start, or `None`.
        chosen: id, or `None` for the inherited one.

    Raises:
        ValueError: for a license that the hub does not know, and one that
            allows more than the inherited one does.
    """
    if chosen is None or chosen == inherited:
        return inherited
    if chosen not in IDS:
        raise ValueError(
            f"`license` must be an id that the hub knows, one of {list(IDS)}. "
            f"Received: license={chosen!r}"
        )
    if inherited is None or inherited in FREE_LICENSES:
        return chosen
    if inherited in NON_COMMERCIAL and chosen in NON_COMMERCIAL:
        return chosen
    why = (
        "forbids commercial use, also of what is made from them"
        if inherited in NON_COMMERCIAL
        else "holds for what is made from them"
    )
    raise ValueError(
        f"The weights at the start are under {inherited!r}, which {why}: a "
        f"model that was trained from them keeps it. Received: "
        f"license={chosen!r}. Leave `license` out, or train from other weights"
    )


def metadata_of(license):
    """Fields of the hub's metadata."""
    if license is None or license in IDS:
        return {"license": license}
    return {"license": "other", "license_name": license}
