"""Starts processes that build one model, each in its own way."""

from dataclasses import asdict

from keras_convnext.facts.variants import VARIANTS
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import IMAGENET_STD
from race.contestants import ARTIFACTS
from race.contestants import installed_backend
from race.process import Failure
from race.process import started


class Starter:
    """Starts processes for one model, all on the same cores."""

    def __init__(self, model, dtype, cores, folder):
        self.folder = folder
        self.artifacts = {}
        self.job = {
            "model": model,
            "variant": asdict(VARIANTS[model]),
            "dtype": dtype,
            "cores": cores,
            "threads": len(cores),
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
        }

    def start(self, contestant, task):
        """A context with the `Process` of a contestant."""
        models = contestant.models
        if models is not None and self.job["model"] not in models:
            raise Failure(f"it has no {self.job['model']}")
        job = {
            "builder": contestant.builder,
            "needs": contestant.needs,
            "their_model": models and models[self.job["model"]],
            **asdict(task),
        }
        if contestant.artifact:
            job["path"] = self._artifact(contestant.artifact, task.image_size)
        return self._process(job, contestant.runs_on)

    def survey(self, image_sizes):
        """Multiply-adds by image size, and the ceiling."""
        job = {
            "builder": "in_keras.py:survey",
            "needs": (),
            "image_sizes": sorted(image_sizes),
        }
        backend = installed_backend()
        with self._process(job, backend) as process:
            found = process.answer()
        return {
            "macs": found["macs"],
            "ceiling": {
                "backend": backend,
                "device": found["device"],
                "gflops": max(found["gflops"]),
                "raw_gflops": found["gflops"],
            },
        }

    def _artifact(self, name, image_size):
        """The path of a file, which a process of its own has written."""
        key = name, image_size
        if key not in self.artifacts:
            artifact = ARTIFACTS[name]
            file = f"{len(self.artifacts)}{artifact.ending}"
            job = {
                "builder": artifact.builder,
                "needs": artifact.needs,
                "image_size": image_size,
                "path": str(self.folder / file),
            }
            with self._process(job, installed_backend()) as process:
                process.answer()
            self.artifacts[key] = job["path"]
        return self.artifacts[key]

    def _process(self, job, runs_on):
        backends = ("tensorflow", "jax", "torch")
        backend = runs_on if runs_on in backends else installed_backend()
        return started({**self.job, **job}, backend)
