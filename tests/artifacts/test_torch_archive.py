"""`.pt2` files that would run code are refused before PyTorch opens them."""

import io
import json
import os
import pickle
import zipfile

import keras
import pytest

import keras_convnext
from keras_convnext import open_artifact
from keras_convnext.artifacts.torch_archive import code_in

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="only torch writes them"
)

WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
PROGRAM = "models/model.json"
INPUTS = "data/sample_inputs/model.pt"


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """Of a program for images of any size: with expressions, and guards."""
    path = tmp_path_factory.mktemp("pt2") / "plain.pt2"
    model = keras_convnext.ConvNeXt(
        (1, 1), (8, 16), input_shape=(None, None, 3), classes=3
    )
    keras_convnext.export(model, path)
    assert code_in(path) is None
    assert {*open_artifact(path).metadata["outputs"]} == {"logits", "scores"}
    with zipfile.ZipFile(path) as archive:
        return {
            name.partition("/")[2]: archive.read(name)
            for name in archive.namelist()
        }


def written(path, members):
    import torch

    writer = torch._C.PyTorchFileWriter(str(path))
    for name, content in members.items():
        # These it writes itself.
        if not name.startswith(".data") and name != "byteorder":
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()


class Code:
    """A pickle that makes a folder when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def with_code(members, kind, mark):
    """The members of a program that would make the folder `mark`."""
    import torch

    members = dict(members)
    program = json.loads(members[PROGRAM])
    nodes = program["graph_module"]["graph"]["nodes"]
    signature = program["graph_module"]["module_call_graph"][0]["signature"]
    call = f"__import__('os').mkdir({mark!r})"
    if kind == "function":
        call = "sympify('1')"  # evaluates what it is given
    buffer = io.BytesIO()
    torch.save(Code(mark), buffer)
    if kind in ("weight", "opaque constant"):
        member = WEIGHTS if kind == "weight" else CONSTANTS
        if member not in members:
            pytest.skip("torch 2.8 has one pickle for all, that it checks")
        config = json.loads(members[member])
        entry = next(iter(config["config"].values()))
        entry["use_pickle"] = True
        content = buffer.getvalue()
        if kind == "opaque constant":
            entry["path_name"] = "opaque_obj_0"
            content = pickle.dumps(Code(mark))
        members[member] = json.dumps(config).encode()
        members[f"{os.path.dirname(member)}/{entry['path_name']}"] = content
    elif kind == "sample inputs":
        members[INPUTS] = buffer.getvalue()
    elif kind == "compiled library":
        members["data/aotinductor/model/model.so"] = b"\x7fELF"
    elif kind in ("expression", "function"):
        text = json.dumps(program)
        at = text.index('"expr_str": "') + len('"expr_str": "')
        members[PROGRAM] = (
            text[:at] + call + text[text.index('"', at) :]
        ).encode()
    elif kind == "guard":
        if "guards_code" not in program:
            pytest.skip("torch 2.8 has no guards")
        program["guards_code"].append(call)
    elif kind == "operator":
        nodes[0]["target"] = "torch.hub.load"
    elif kind == "container":
        spec = json.loads(signature["in_spec"])
        spec[1]["type"] = "collections.defaultdict"
        signature["in_spec"] = json.dumps(spec)
    if kind in ("guard", "operator", "container"):
        members[PROGRAM] = json.dumps(program).encode()
    return members


KINDS = (
    "weight",
    "opaque constant",
    "sample inputs",
    "compiled library",
    "expression",
    "function",
    "guard",
    "operator",
    "container",
)


@pytest.mark.parametrize("kind", KINDS)
def test_programs_with_code_are_refused_unopened(kind, members, tmp_path):
    path, mark = tmp_path / "crafted.pt2", tmp_path / "mark"
    written(path, with_code(members, kind, str(mark)))
    with pytest.raises(ValueError, match=r"crafted\.pt2.*`trust=True`"):
        open_artifact(path)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["weight", "sample inputs", "guard"])
def test_what_is_refused_would_have_run(kind, members, tmp_path):
    path, mark = tmp_path / "crafted.pt2", tmp_path / "mark"
    written(path, with_code(members, kind, str(mark)))
    try:
        artifact = open_artifact(path, trust=True)
        artifact.predict(
            keras.ops.convert_to_numpy(keras.ops.zeros((1, 32, 32, 3)))
        )
    except Exception:
        pass
    assert mark.exists()


@pytest.mark.parametrize(
    "content", [b"", b"PK\x05\x06", b"text", b"flipped", None]
)
def test_damaged_programs_are_named(content, members, tmp_path):
    path = tmp_path / "damaged.pt2"
    written(path, members)
    if content is None:
        content = path.read_bytes()[:-30]
    elif content == b"flipped":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"Received: .*damaged\.pt2"):
        open_artifact(path)
