"""A web page that runs the model in the browser: a folder of plain files."""

import shutil
from importlib import resources

from keras_convnext._util.writing import writing
from keras_convnext.artifacts import metadata
from keras_convnext.artifacts import onnx
from keras_convnext.artifacts import onnxruntime_web
from keras_convnext.artifacts.formats import MODEL_FILE

# The page itself, which is the same for all models.
PAGE = "web_page"


def write(exportable, path, images=None):
    """Writes the page, the model as an ONNX file, and what runs it; returns
    as `onnx.write`."""
    package = onnxruntime_web.fetch()  # there may be no network
    with writing(path):
        path.mkdir()
    converter = onnx.write(exportable, path / MODEL_FILE, images)
    onnxruntime_web.unpack(package, path)
    with writing(path):
        (path / metadata.FILE).write_text(exportable.text, encoding="utf-8")
        page = resources.files(__package__) / PAGE
        with resources.as_file(page) as folder:
            shutil.copytree(folder, path, dirs_exist_ok=True)
    return converter
