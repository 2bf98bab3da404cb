"""The encoder-decoder of Mekhilef et al. (paper 003)."""

from .lightning_model import EncoderDecoder

__all__ = ["EncoderDecoder"]
