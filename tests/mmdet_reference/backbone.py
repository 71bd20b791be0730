"""ConvNeXt in PyTorch, with the names of the official detectors' files."""

import torch
from torch import nn
from torch.nn import functional as F


class ConvNeXt(nn.Module):
    """Stages of blocks; returns the map of each, normalized."""

    def __init__(self, depths, dims, **ignored):
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, dims[0], 4, 4), ChannelNorm(dims[0]))
        between = [
            nn.Sequential(ChannelNorm(before), nn.Conv2d(before, dim, 2, 2))
            for before, dim in zip(dims, dims[1:])
        ]
        self.downsample_layers = nn.ModuleList([stem, *between])
        self.stages = nn.ModuleList(
            nn.Sequential(*[Block(dim) for _ in range(depth)])
            for depth, dim in zip(depths, dims)
        )
        for index, dim in enumerate(dims):
            self.add_module(f"norm{index}", ChannelNorm(dim))

    def init_weights(self, pretrained=None):
        """The formula gives the weights."""

    def forward(self, x):
        maps = []
        for index, stage in enumerate(self.stages):
            x = stage(self.downsample_layers[index](x))
            maps.append(getattr(self, f"norm{index}")(x))
        return tuple(maps)


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        branch = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        branch = self.pwconv2(F.gelu(self.pwconv1(branch)))
        return x + (self.gamma * branch).permute(0, 3, 1, 2)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map."""

    def __init__(self, dim):
        super().__init__(dim, eps=1e-6)

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
