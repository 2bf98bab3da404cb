"""Published weights for a part of a network."""

from pathlib import Path

from torch import nn

from harness.errors import WeightsError
from harness.models.weights import load_state


def load_pretrained(network: nn.Module, path: Path, what: str) -> None:
    """Load a file of tensors into a network, all of it, and freeze the network.

    Args:
        network: changed in place.
        path: a state dict, as safetensors or as a torch file without code.
        what: the network's name in a message.

    Raises:
        WeightsError: for a file that cannot be read or that is of another network.
    """
    try:
        network.load_state_dict(load_state(path))
    except RuntimeError as error:
        culprit = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"Weights {path} do not fit {what} ({culprit}); give the file that was made for it."
        ) from error
    network.requires_grad_(False)
