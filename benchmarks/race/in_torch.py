"""PyTorch models of others; `worker` runs this file, without Keras."""

import contextlib
import importlib.util
from pathlib import Path

import numpy as np
import torch

DTYPES = {
    "float32": torch.float32,
    "mixed_bfloat16": torch.bfloat16,
    "mixed_float16": torch.float16,
}


def declare_operators():
    """Lets timm and transformers import a torchvision built for another torch.

    Its operators are missing then, and declaring two of them is enough.
    """
    if hasattr(torch.ops.torchvision, "nms"):
        return None  # to declare it twice would end the process
    found = importlib.util.find_spec("torchvision")
    for library in Path(found.origin).parent.glob("_C.*") if found else ():
        try:
            torch.ops.load_library(str(library))
        except OSError:
            declared = torch.library.Library("torchvision", "FRAGMENT")
            for name in ("nms", "qnms"):
                schema = "(Tensor dets, Tensor scores, float iou_threshold)"
                with contextlib.suppress(RuntimeError):  # it is declared
                    declared.define(f"{name}{schema} -> Tensor")
            return declared


# Dropped, they are undeclared again.
OPERATORS = declare_operators()


class TorchModel:
    """A module on the GPU if there is one: channels_last there, and autocast
    for mixed precision."""

    takes_normalized = True
    is_compiled = False
    format = torch.contiguous_format

    def __init__(self, job):
        torch.set_num_threads(job["threads"])
        self.kind = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = "CPU"
        if self.kind == "cuda":
            self.device = torch.cuda.get_device_name()
            self.format = torch.channels_last
        self.dtype = DTYPES[job["dtype"]]
        self.is_training = job["mode"] == "training"
        self.model = self.build(job).to(self.kind, memory_format=self.format)
        self.model.train(self.is_training)
        if self.is_compiled:
            self.call = torch.compile(self.call)

    def prepare(self, images, labels):
        self.images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        if not self.is_training:
            return self.predict
        self.labels = labels
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-3)
        # Does nothing but for float16.
        self.scaler = torch.amp.GradScaler(
            self.kind, enabled=self.dtype == torch.float16
        )
        return self.train

    def call(self, images):
        return self.model(images)

    def forward(self):
        images = torch.from_numpy(self.images)
        images = images.to(self.kind, memory_format=self.format)
        is_mixed = self.dtype != torch.float32
        with torch.autocast(self.kind, self.dtype, enabled=is_mixed):
            return self.call(images)

    def predict(self):
        with torch.inference_mode():
            return self.forward().float().cpu().numpy()

    def train(self):
        self.optimizer.zero_grad()
        logits = self.forward()
        labels = torch.from_numpy(self.labels).to(self.kind)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.item()

    def finish(self):
        """Waits: a loss is there before the last update is."""
        if self.kind == "cuda":
            torch.cuda.synchronize()

    def peak_bytes(self):
        if self.kind == "cuda":
            return torch.cuda.max_memory_allocated()
        return None


class Timm(TorchModel):
    def build(self, job):
        import timm

        return timm.create_model(job["their_model"])


class TimmChannelsLast(Timm):
    format = torch.channels_last


class TimmCompiled(Timm):
    is_compiled = True


class TimmFrozen(TimmCompiled):
    """With weights that the compiler has packed."""

    def predict(self):
        with torch._inductor.config.patch(freezing=True):
            return super().predict()


class Swin(TorchModel):
    def build(self, job):
        import timm

        return timm.create_model(job["their_model"], img_size=job["image_size"])


class Transformers(TorchModel):
    def build(self, job):
        import transformers

        variant = job["variant"]
        sizes = {
            "hidden_sizes": variant["dims"],
            "depths": variant["depths"],
            "num_labels": 1000,
        }
        if variant["grn"]:
            config = transformers.ConvNextV2Config(**sizes)
            return transformers.ConvNextV2ForImageClassification(config)
        config = transformers.ConvNextConfig(**sizes)
        return transformers.ConvNextForImageClassification(config)

    def call(self, images):
        return self.model(images).logits


def write_timm(job):
    """timm's model as ONNX by PyTorch's own exporter, for any batch."""
    import timm

    size = job["image_size"]
    torch.onnx.export(
        timm.create_model(job["model"]).eval(),
        (torch.zeros(2, 3, size, size),),
        job["path"],
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )
    return {}
