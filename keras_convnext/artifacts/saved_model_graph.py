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
    saved = saved_model_pb2.SavedModel.FromString(content)
    for graph in saved.meta_graphs:
        if not graph.HasField("object_graph_def"):
            return "a graph of TensorFlow 1"
        for function in graph.graph_def.library.function:
            if SAVERS.fullmatch(function.signature.name):
                continue
            for node in function.node_def:
                called = [x.func.name for x in node.attr.values()]
                if SIDE_EFFECTS.fullmatch(node.op):
                    return f"the operation {node.op}"
                if any(map(SAVERS.fullmatch, called)):
                    return f"a call of {called}"
    return None
