"""Repositories of the Hugging Face hub, each written by one commit.

The token is the one that `hf auth login` keeps, or `HF_TOKEN`: it is read by
`huggingface_hub`, and nothing here sees it.
"""

import contextlib
import re
import tempfile
from pathlib import Path

from keras_convnext._util.startup import WentWrong
from keras_convnext.publishing.layouts import LAYOUTS
from keras_convnext.training.tracking import without_secrets
from keras_convnext.weights.hub import endpoint

SCHEME = "hf://"


class NotUploaded(WentWrong, ValueError):
    """The hub was not reached, or refused: another time it may work."""


class HubTarget:
    """Repositories on the hub.

    Args:
        address: `hf://owner/name`.
        layouts: names; of several each has a repository, `owner/name-timm`.
        private: whether new repositories are to be.

    Raises:
        ValueError: for an address of another form, or without a token.
    """

    def __init__(self, address, layouts, private):
        import huggingface_hub

        self.repository = address.removeprefix(SCHEME)
        self.layouts, self.private = layouts, private
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repository):
            raise ValueError(
                "`to` must be a folder, or hf://owner/name. Received: "
                f"{address!r}"
            )
        if huggingface_hub.get_token() is None:
            raise ValueError(
                "The hub asks who writes: run `hf auth login`, or set "
                f"HF_TOKEN. Received: {address!r} without a token"
            )

    @property
    def name(self):
        return self.repository.partition("/")[2]

    def place(self, layout):
        """What the report says."""
        return SCHEME + self._repository(layout)

    def here(self, layout):
        """How code names the model."""
        return LAYOUTS[layout].there.format(name=self._repository(layout))

    @contextlib.contextmanager
    def aside(self):
        """A folder for everything; removed at the end."""
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)

    def part(self, folder, layout):
        """Where within `aside` a layout is written."""
        return folder / "published" / layout

    def deliver(self, folder):
        """Uploads all files, and then shows them by one commit.

        What was uploaded stays with the hub: given again, the same call sends
        the rest. Not `upload_folder`: it may make several commits.
        """
        for layout in self.layouts:
            try:
                self._upload(self.part(folder, layout), layout)
            except Exception as error:  # of the hub, of httpx, of the system
                raise NotUploaded(
                    f"{self.place(layout)} could not be written: "
                    f"{_said(error)}. It shows what it did before. Check the "
                    "name, that the token may write, and the network; the "
                    "same call then sends the rest"
                ) from None  # its requests have the token in them

    def _upload(self, part, layout):
        import huggingface_hub

        api = huggingface_hub.HfApi(endpoint=endpoint())
        repository = self._repository(layout)
        private = True if self.private else None
        api.create_repo(repository, private=private, exist_ok=True)
        api.create_commit(
            repository,
            [
                huggingface_hub.CommitOperationAdd(x.name, str(x))
                for x in sorted(part.iterdir())
            ],
            commit_message="Publish by keras_convnext",
        )

    def _repository(self, layout):
        several = len(self.layouts) > 1
        return f"{self.repository}-{layout}" if several else self.repository


def _said(error):
    """The first line of an error, without signatures of addresses."""
    text = re.sub(r"\?[^\s'\">)]+", "", str(error).strip())
    return without_secrets(f"{type(error).__name__}: {text}")
