"""He's residual network for small images, written in PyTorch, under the names that minires uses."""

from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, in_channels, channels, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.kind, self.stride, self.new = shortcut, stride, channels - in_channels
        if shortcut == "B" and (stride != 1 or self.new):
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def skip(self, x):
        if self.stride == 1 and not self.new:
            return x
        if self.kind == "B":
            return self.shortcut(x)
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y if self.kind is None else y + self.skip(x))


class ResNet(nn.Module):
    def __init__(self, blocks_per_stage=3, width=16, shortcut="A", num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        for stage in range(3):
            blocks = []
            for i in range(blocks_per_stage):
                blocks.append(Block(channels, width * 2**stage, 2 if stage and not i else 1, shortcut))
                channels = width * 2**stage
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def numbers(state_dict):
    """A state dict of PyTorch as NumPy arrays."""
    return {name: tensor.detach().numpy() for name, tensor in state_dict.items()}
