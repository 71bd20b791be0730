"""Files of whole models from mmdetection, and files that it is to load.

Usage: python -m mmdet_reference.exchange FOLDER   (in `tests`)

Writes `KIND.pth` and `KIND_own.pth`, in mmdetection's own names, as training
there leaves them; loads `KIND_ours.pth` strictly, all tensors or an error.
"""

import sys
from pathlib import Path

import torch

from mmdet_reference import operators  # noqa: F401  before mmcv is imported
from mmdet_reference import write
from mmdet_reference.answers import own_name


def main():
    folder = Path(sys.argv[1])
    for kind in write.KINDS:
        model = write.build(kind)
        state = model.state_dict()
        save(state, folder / f"{kind}.pth")
        own = {own_name(key): x for key, x in state.items()}
        save(own, folder / f"{kind}_own.pth")
        ours = folder / f"{kind}_ours.pth"
        if ours.exists():
            given = torch.load(ours)["state_dict"]
            model.load_state_dict(given, strict=True)
            for name, tensor in model.state_dict().items():
                if not name.endswith("num_batches_tracked"):
                    torch.testing.assert_close(tensor, given[name])


def save(state, path):
    meta = {"epoch": 36, "mmdet_version": "3.3.0", "CLASSES": None}
    torch.save({"meta": meta, "state_dict": state}, path)


if __name__ == "__main__":
    main()
