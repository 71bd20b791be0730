"""transformers' UperNet, whose logits ours must repeat."""

import torch
from peers import import_timm
from peers import randomize

CLASSES, CHANNELS = 7, 16


def peer_of(variant, classes=CLASSES):
    """transformers' model; no weight and no statistic is left as it starts."""
    import_timm()
    import transformers

    config = transformers.ConvNextConfig
    if variant.grn:
        config = transformers.ConvNextV2Config
    backbone = config(
        hidden_sizes=list(variant.dims),
        depths=list(variant.depths),
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    model = transformers.UperNetForSemanticSegmentation(
        transformers.UperNetConfig(
            backbone_config=backbone,
            hidden_size=CHANNELS,
            auxiliary_channels=CHANNELS // 2,
            num_labels=classes,
        )
    )
    generator = torch.Generator().manual_seed(1)
    for name, buffer in model.named_buffers():
        noise = torch.rand(buffer.shape, generator=generator)
        if name.endswith("running_mean"):
            buffer.copy_(noise - 0.5)
        elif name.endswith("running_var"):
            buffer.copy_(noise + 0.5)
    randomize(model)
    with torch.no_grad():
        for head in (model.decode_head, model.auxiliary_head):
            head.classifier.weight.mul_(10)  # logits of some size
    return model
