"""Which `.pt2` files can be opened without running code that is in them.

`torch.export.load` unpickles what an archive says is a pickle, evaluates the
sizes of tensors as Python expressions, executes its guards, and loads compiled
libraries. Here every place that can hold code is read first.
"""

import ast
import functools
import io
import json
import re
import zipfile

from keras_convnext._util.limits import check_archive
from keras_convnext._util.requirements import require

# Everything else in an archive is a pickle or a compiled library.
MEMBERS = re.compile(
    r"archive_format|archive_version|version|byteorder|\.data/\w+"
    r"|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/(weights|constants|sample_inputs)/model\.pt"
    r"|models/model\.json|extra/.+"
)
OPERATORS = re.compile(
    r"(torch\.ops\.aten|_operator|math)\.(?!from_file)[\w.]+"
)
# Of the expressions for sizes, and of guards.
FUNCTIONS = {
    *("Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Mod"),
    *("PythonMod", "FloorDiv", "CeilDiv", "CleanDiv", "IntTrueDiv", "Max"),
    *("Min", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "max"),
    *("min", "StrictGreaterThan", "StrictLessThan", "GreaterThan", "LessThan"),
    *("Equality", "Unequality", "Abs", "abs", "floor", "ceiling"),
}
SYNTAX = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context),
    *(ast.Constant, ast.Name, ast.Subscript, ast.keyword),
)
CONTAINERS = {None, "builtins.dict", "builtins.list", "builtins.tuple"}


def code_in(path):
    """The first thing in an archive that can run code, in words, or `None`.

    Raises:
        ValueError: if a member is not what was written, by its checksum.
    """
    torch = require("torch", "`.pt2` files")
    with zipfile.ZipFile(path) as archive:
        check_archive(archive, path)
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} is damaged")
        return _first_code(archive, torch)


def _first_code(archive, torch):
    members, folders = {}, set()
    for name in archive.namelist():
        folder, _, member = name.partition("/")
        if not MEMBERS.fullmatch(member):
            return f"the member {member!r}"
        folders.add(folder)
        # PyTorch might read the other one.
        if member in members or len(folders) > 1:
            return f"a second {member!r}"
        members[member] = name
    for member, name in members.items():
        content = functools.partial(archive.read, name)
        if member.endswith("_config.json"):
            for tensor, entry in json.loads(content())["config"].items():
                if entry["use_pickle"]:
                    return f"the pickle of {tensor!r}"
        if member.endswith(".pt"):
            try:
                torch.load(io.BytesIO(content()), weights_only=True)
            except Exception:
                return f"the pickle {member!r}"
    program = json.loads(archive.read(members["models/model.json"]))
    return next(filter(None, map(_code_at, *zip(*_leaves(program)))), None)


def _leaves(value, key=None):
    """Every value that is no container, behind the key that it has."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, key)
    else:
        yield key, value


def _code_at(key, value):
    if not isinstance(value, str):
        return None
    is_plain = True
    if key == "target":
        is_plain = OPERATORS.fullmatch(value)
    elif key in ("expr_str", "guards_code"):
        is_plain = _is_arithmetic(value)
    elif key in ("in_spec", "out_spec"):
        types = (x for name, x in _leaves(json.loads(value)) if name == "type")
        is_plain = CONTAINERS.issuperset(types)
    return None if is_plain else f"{key} {value[:60]!r}"


def _is_arithmetic(text):
    return all(map(_is_harmless, ast.walk(ast.parse(text, mode="eval"))))


def _is_harmless(node):
    if isinstance(node, ast.Call):
        function = node.func
        return isinstance(function, ast.Attribute) or (
            isinstance(function, ast.Name) and function.id in FUNCTIONS
        )
    if isinstance(node, ast.Attribute):
        # L['image'].size() and, from torch 2.14 on, torch.sym_max
        if isinstance(node.value, ast.Subscript):
            return node.attr == "size"
        is_torch = isinstance(node.value, ast.Name) and node.value.id == "torch"
        return is_torch and node.attr.startswith("sym_")
    return isinstance(node, SYNTAX)
