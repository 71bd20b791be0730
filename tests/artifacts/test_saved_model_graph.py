"""SavedModels that would touch files are refused before they are run."""

import shutil

import keras
import pytest

import keras_convnext
from keras_convnext import open_artifact

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow makes them"
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved_model") / "plain"
    model = keras_convnext.ConvNeXt(
        (1,), (4,), input_shape=(16, 16, 3), classes=3
    )
    keras_convnext.export(model, path, format="saved_model", verify=False)
    assert open_artifact(path).metadata["channels"] == 3
    return path


def module(kind, target):
    import tensorflow as tf

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3))])
        def serve(self, image):
            if kind == "writes":
                tf.io.write_file(target, "x")
            elif kind == "reads":
                tf.io.read_file(target)
            elif kind == "prints":
                tf.print("x", output_stream=f"file://{target}")
            else:
                tf.data.TextLineDataset(target).reduce(0, lambda x, _: x)
            return {"scores": image[:, 0, 0]}

    return Module()


@pytest.mark.parametrize("kind", ["writes", "reads", "prints", "iterates"])
def test_graphs_that_touch_files_are_refused(kind, plain, tmp_path):
    import tensorflow as tf

    path, target = tmp_path / "crafted", tmp_path / "target"
    crafted = module(kind, str(target))
    signatures = {"serving_default": crafted.serve}
    tf.saved_model.save(crafted, str(path), signatures)
    shutil.copytree(plain / "assets", path / "assets", dirs_exist_ok=True)
    with pytest.raises(ValueError, match=r"crafted' with .*`trust=True`"):
        open_artifact(path)
    assert not target.exists()


def add_graph(saved, saver):
    """TensorFlow then runs the first operations that are in no function."""
    saved.meta_graphs.add().CopyFrom(saved.meta_graphs[0])


def call_saver(saved, saver):
    first_node(saved).op = saver


def hand_saver_over(saved, saver):
    first_node(saved).attr["branches"].list.func.add(name=saver)


def first_node(saved):
    functions = saved.meta_graphs[0].graph_def.library.function
    return next(
        x for x in functions if "traced" not in x.signature.name
    ).node_def[0]


@pytest.mark.parametrize("change", [add_graph, call_saver, hand_saver_over])
def test_graphs_that_come_to_files_in_other_ways_are_refused(
    change, plain, tmp_path
):
    from tensorflow.core.protobuf import saved_model_pb2

    path = tmp_path / "crafted"
    shutil.copytree(plain, path)
    file = path / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    (saver,) = (
        x.signature.name
        for x in functions
        if x.signature.name.startswith("__inference__traced_save_")
    )
    change(saved, saver)
    file.write_bytes(saved.SerializeToString())
    with pytest.raises(ValueError, match=r"crafted' with .*`trust=True`"):
        open_artifact(path)


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_damaged_saved_models_are_named(content, plain, tmp_path):
    path = tmp_path / "damaged"
    shutil.copytree(plain, path)
    file = path / "saved_model.pb"
    file.write_bytes(file.read_bytes()[:-30] if content is None else content)
    with pytest.raises(ValueError, match="damaged"):
        open_artifact(path)
