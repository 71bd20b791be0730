"""Gradients averaged over processes while the rest is still computed.

`DistributedDataParallel` must be called in place of the model, which Keras'
`fit` does from 3.16 on only. PyTorch's hooks on parameters do the same: buckets
of 25 MB, as there, are summed by `torch.distributed` while going backward goes
on.
"""

import contextlib

BUCKET_BYTES = 25 * 2**20


class AveragedGradients:
    """A context: `backward` leaves the mean gradients of all processes.

    Args:
        variables: list of trainable Keras variables, in order of the model.
        process_count: int.

    Every one of them must get a gradient in each `backward`.
    """

    def __init__(self, variables, process_count):
        self._process_count = process_count
        self._paths = {id(x.value): x.path for x in variables}
        # Going backward the last come first.
        self._buckets = _buckets([x.value for x in reversed(variables)])

    def __enter__(self):
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(self._ready)
            for bucket in self._buckets
            for parameter in bucket
        ]
        self._begin()
        return self

    def __exit__(self, *_):
        for hook in self._hooks:
            hook.remove()

    def _begin(self):
        self._pending = dict(self._paths)
        self._sent = []

    def _ready(self, parameter):
        if id(parameter) not in self._pending:
            missing = sorted(self._pending.values())
            raise RuntimeError(
                "Every trainable weight needs a gradient in each step. "
                f"Received: none for {', '.join(missing[:5])}. Set "
                "`trainable = False` for what the loss does not depend on"
            )
        del self._pending[id(parameter)]
        # In the same order in all processes, whichever is ready first.
        for bucket in self._buckets[len(self._sent) :]:
            if any(id(x) in self._pending for x in bucket):
                break
            self._send(bucket)
        if not self._pending:
            self._receive()
            self._begin()

    def _send(self, bucket):
        import torch

        flat = torch.cat([parameter.grad.flatten() for parameter in bucket])
        flat /= self._process_count
        work = torch.distributed.all_reduce(flat, async_op=True)
        self._sent.append((flat, work))

    def _receive(self):
        for bucket, (flat, work) in zip(self._buckets, self._sent):
            work.wait()
            parts = flat.split([parameter.numel() for parameter in bucket])
            for parameter, part in zip(bucket, parts):
                parameter.grad.copy_(part.view_as(parameter))


@contextlib.contextmanager
def without_keras_averaging(model):
    """Within it Keras lets this process train and validate by itself.

    Where `torch.distributed` is initialized, Keras 3.16 wraps the model in
    `DistributedDataParallel` and adds its metrics up in every batch. Here that
    is switched off, and nowhere else. Gradients would be averaged twice. In
    validation a process may have a batch more than the others: it would wait
    for them for ever. And what `metrics_to_writer` added up would be added up
    again.

    Args:
        model: the Keras model to train.
    """
    if not hasattr(model, "ddp_model"):  # Keras 3.15
        yield
        return
    before = model.ddp_model
    # Keras makes one where there is `None`, and calls one that is true.
    model.ddp_model = False
    model.get_metrics_result = lambda: _own_metrics(model)
    try:
        yield
    finally:
        del model.get_metrics_result
        model.ddp_model = before


def _own_metrics(model):
    """The metrics of this process by name, as Keras 3.15 gives them."""
    results = {}
    for metric in model.metrics:
        result = metric.result()
        named = result if isinstance(result, dict) else {metric.name: result}
        results.update(named)
    return results


def _buckets(parameters):
    """Neighbors of one type together, up to `BUCKET_BYTES`."""
    buckets, size = [], 0
    for parameter in parameters:
        size += parameter.nbytes
        fits = buckets and size <= BUCKET_BYTES
        if fits and buckets[-1][0].dtype == parameter.dtype:
            buckets[-1].append(parameter)
        else:
            buckets.append([parameter])
            size = parameter.nbytes
    return buckets
