"""The networks of Auto-Classifier: fine-tuned CNNs, their weighted votes, and a searched head on one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from torch import nn

from harness.errors import ConfigError
from harness.models.components.classification import Classified

from .automl import SearchedHead
from .selection import Validated


def classifier(backbone: str | nn.Module, classes: int, pre_trained: bool = True) -> nn.Module:
    """Return a network with a new last layer for so many classes, all of it to be trained.

    Args:
        backbone: a timm model name, or a network of timm (changed in place).
        classes: their number.
        pre_trained: load timm's weights when `backbone` is a name.

    Raises:
        ConfigError: when the network has no classifier to replace.
    """
    network = timm.create_model(backbone, pretrained=pre_trained) if isinstance(backbone, str) else backbone
    reset: Any = getattr(network, "reset_classifier", None)
    if reset is None:
        raise ConfigError(f"{type(network).__name__} has no classifier to replace; choose a ResNet or VGG of timm.")
    reset(classes)
    # Lightning trains every module in the mode that it finds: given in evaluation mode, BatchNorm would stay frozen.
    return network.requires_grad_(True).train()


def short_names(backbones: Sequence[str] | Mapping[str, nn.Module]) -> dict[str, str | nn.Module]:
    """Return the networks by timm's names without the tags of their weights, which name parameters and losses.

    Raises:
        ConfigError: when there is none, or an architecture comes twice.
    """
    given = backbones if isinstance(backbones, Mapping) else {name: name for name in backbones}
    named = {name.partition(".")[0]: network for name, network in given.items()}
    if not named or len(named) != len(backbones):
        raise ConfigError(f"backbones={list(backbones)} is not possible; give one network or more, each once.")
    return dict(named)


class FusionModel(nn.Module):
    """CNNs that vote on the class of an image (paper 004, section 3.2); a single one decides alone.

    The networks' probabilities are averaged with the weights `votes`, which sum to one.

    Args:
        networks: classifiers of the same classes, by name.
    """

    votes: torch.Tensor

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self.register_buffer("votes", torch.full((len(networks),), 1 / len(networks)))

    def forward(self, images: torch.Tensor) -> torch.Tensor | Classified:
        """Judge images (N, 3, H, W): logits (networks, N, classes) in training, else scores and probabilities."""
        logits = self.logits(images)
        return logits if self.training else self.fuse(logits)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return what each network says of images (N, 3, H, W), as (networks, N, classes)."""
        return torch.stack([network(images).float() for network in self.networks.values()])

    def fuse(self, logits: torch.Tensor) -> Classified:
        """Return the result of the vote for logits (networks, N, classes)."""
        return _classified((self.votes.view(-1, 1, 1) * logits.softmax(dim=-1)).sum(dim=0))

    def weigh(self, results: Sequence[Validated]) -> None:
        """Give each network a vote in proportion to its validation AUROC; equal ones where all are 0."""
        aurocs = self.votes.new_tensor([result.auroc for result in results])
        total = aurocs.sum()
        self.votes.copy_(aurocs / total if total > 0 else torch.full_like(aurocs, 1 / len(aurocs)))


class AutomlModel(FusionModel):
    """The best one of some CNNs, with a searched classifier in place of its own last layer once there is one.

    Args:
        networks: classifiers of the same classes, by name.
        classes: their number.
    """

    def __init__(self, networks: Mapping[str, nn.Module], classes: int) -> None:
        super().__init__(networks)
        self.head = SearchedHead(classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor | Classified:
        """Judge images (N, 3, H, W): logits (networks, N, classes) in training, else scores and probabilities."""
        if self.training or not self.head.fitted:
            return super().forward(images)
        return _classified(self.head(self.features(images)))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the spatial means (N, channels) of the best network's last convolutional layer.

        Raises:
            ConfigError: when the network does not end in feature maps.
        """
        name = list(self.networks)[int(self.votes.argmax())]
        network: Any = self.networks[name]
        maps: torch.Tensor = network.forward_features(images)
        if maps.ndim != 4:
            raise ConfigError(f"Backbone {name} has no convolutional last layer; choose a ResNet or VGG.")
        return maps.float().mean(dim=(2, 3))

    def weigh(self, results: Sequence[Validated]) -> None:
        """Give the best network the only vote."""
        self.votes.zero_()[results.index(max(results))] = 1


def _classified(probabilities: torch.Tensor) -> Classified:
    """Score by 1 − p(good), summed from the other classes: near 0 the difference would round to ties."""
    return Classified(pred_score=probabilities[:, 1:].sum(dim=1), class_probabilities=probabilities)
