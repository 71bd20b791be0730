"""Finds code that spells layer names, or takes them apart, by itself."""

import ast
import re

# Pieces of names that are no words of anything else.
SPELLED = re.compile(
    r"(stage|block)_($|[^a-z])|to_channels_|downsample_(norm|conv)|"
    r"\bstem_(conv|norm|activation|pool)|\b(stem|head)\||\|(stem|head)\b|"
    r"\bhead_(pool|norm|hidden(?!_size)|dropout|classifier|activation)|"
    r"_(drop_path|layer_scale)\b"
)
# What a name begins or ends with, asked of any text.
WORD = re.compile(r"_?(stem|stage|block|downsample|head|norm\d|card)")
METHODS = {"startswith", "endswith", "removeprefix", "removesuffix"}
METHODS |= {"partition", "rpartition", "split", "rsplit"}
METHODS |= {"match", "fullmatch", "search", "sub", "findall", "finditer"}
# They have a `name`, and are no layers.
OTHERS = {"path", "source", "target", "variable", "variant"}


def findings(source):
    """Expressions of a module that do what `facts/layer_names.py` is for.

    Args:
        source: text of the module.

    Returns:
        List of their texts.
    """
    nodes = list(ast.walk(ast.parse(source)))
    skipped = {id(x) for node in nodes for x in _skipped(node)}
    return [
        ast.unparse(node)
        for node in nodes
        if id(node) not in skipped
        and (SPELLED.search(_text(node)) or _takes_apart(node))
    ]


def _skipped(node):
    """Docstrings, all that an error says, and what is read as a whole."""
    if isinstance(node, ast.Raise):
        yield from ast.walk(node)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield from node.values


def _text(node):
    """A literal's text, with `{}` for what an f-string fills in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(x) or "{}" for x in node.values)
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return node.value if is_text else ""


def _takes_apart(node):
    if isinstance(node, ast.Compare):
        is_in = isinstance(node.ops[0], ast.In | ast.NotIn)
        return is_in and _is_name(node.comparators[0])
    if not isinstance(node, ast.Call):
        return False
    method = node.func
    if not isinstance(method, ast.Attribute) or method.attr not in METHODS:
        return False
    inside = [x for argument in node.args for x in ast.walk(argument)]
    return (
        _is_name(method.value)
        or any(_is_name(x) for x in inside)
        or any(isinstance(x, ast.Name) and x.id == "Part" for x in inside)
        or any(WORD.match(_text(x)) for x in inside)
    )


def _is_name(node):
    return (
        isinstance(node, ast.Attribute)
        and node.attr == "name"
        and not (isinstance(node.value, ast.Name) and node.value.id in OTHERS)
    )
