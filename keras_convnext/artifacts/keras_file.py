"""`.keras` files, opened with care: they may come from anybody."""

import io
import zipfile

import h5py
import keras

from keras_convnext._util.checks import all_numbers
from keras_convnext._util.limits import check_archive
from keras_convnext._util.limits import check_hdf5

WEIGHTS = "model.weights.h5"


def load(path, trust=False):
    """The model in a `.keras` file, not compiled.

    Args:
        path: of the file.
        trust: whether it may hold code, such as `Lambda` layers.

    Raises:
        ValueError: naming the file, if it is missing, damaged, too large once
            it is inflated, or has weights that are no numbers.
    """
    try:
        # The weights have a checksum in the archive, which Keras reads whole.
        with zipfile.ZipFile(path) as archive:
            check_archive(archive, path)
            if WEIGHTS in archive.namelist():
                with _member(archive) as member, h5py.File(member) as file:
                    check_hdf5(file, path)
        model = keras.saving.load_model(
            path, compile=False, safe_mode=not trust
        )
        for variable in model.weights:
            all_numbers(variable.path, keras.ops.convert_to_numpy(variable))
    except Exception as error:  # Keras' own are of any kind
        raise unreadable(path, "a whole `.keras` file", error) from error
    return model


def _member(archive):
    """The weights as a file; in what is compressed nobody can seek."""
    entry = archive.getinfo(WEIGHTS)
    if entry.compress_type == zipfile.ZIP_STORED:
        return archive.open(entry)
    return io.BytesIO(archive.read(entry))


def unreadable(path, expected, error):
    """The error for a file that cannot be opened."""
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, FileNotFoundError):
        reason = "it does not exist"
    return ValueError(
        f"Expected {expected}. Received: {str(path)!r}, which cannot be opened "
        f"({reason}). Copy, download or export it again"
    )
