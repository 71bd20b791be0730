"""JSON files of this package, as they were written or named as damaged."""

import json

from keras_convnext._util.limits import check_file


def read_object(path, fields):
    """The object in a file.

    Args:
        path: a `Path`.
        fields: dict from names of fields that it must have to their types.

    Raises:
        ValueError: saying what is wrong with it, after the name of the file
            without its folder.
        OSError: if it cannot be read.
    """
    check_file(path)  # a pipe would never end
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} holds no JSON ({error})") from error
    check_fields(value, fields, path.name)
    return value


def write_object(path, value):
    """Writes an object into a new file, for people to read, too."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def check_fields(value, fields, name):
    """Raises `ValueError` unless a value is an object with these fields.

    Args:
        value: of JSON's types.
        fields: dict from names to types.
        name: what the message calls it.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{name} holds {_kind(value)} in place of an object")
    missing = [field for field in fields if field not in value]
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}")
    for field, kind in fields.items():
        if not isinstance(value[field], kind):
            raise ValueError(
                f"{name} has {_kind(value[field])} as {field}, which must be "
                f"of type {kind.__name__}"
            )


def _kind(value):
    return "null" if value is None else f"a value of {type(value).__name__}"
