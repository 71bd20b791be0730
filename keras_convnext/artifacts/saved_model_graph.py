"""Which SavedModels can be run without touching files or processes."""

import re

from keras_convnext._util.requirements import require

# Operations that read and write files, call Python or talk to other processes.
SIDE_EFFECTS = re.compile(
    r".*(File|Save|Restore|Checkpoint|Reader|Table|Dataset|Database|Summary"
    r"|PyFunc|Print|Debug|Dump|Rpc|Send|Recv).*"
)
# TensorFlow's own, which save and restore the variables; nothing else may call
# them.
SAVERS = re.compile(r"__inference__traced_(save|restore)_\d+")


def code_in(path):
    """The first operation with side effects, in words, or `None`."""
    require("tensorflow", "SavedModels")
    from tensorflow.core.protobuf import saved_model_pb2

    content = (path / "saved_model.pb").read_bytes()
    graphs = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    # TensorFlow loads all others as it did in version 1, which runs operations
    # that are in no function.
    if len(graphs) != 1 or not graphs[0].HasField("object_graph_def"):
        return "a graph of TensorFlow 1"
    for function in graphs[0].graph_def.library.function:
        if SAVERS.fullmatch(function.signature.name):
            continue
        for node in function.node_def:
            for name in _called(node):
                if SIDE_EFFECTS.fullmatch(name) or SAVERS.fullmatch(name):
                    return f"the operation {name}"
    return None


def _called(node):
    """Its operation, and the functions that it is given."""
    yield node.op
    for value in node.attr.values():
        yield value.func.name
        yield from (function.name for function in value.list.func)
