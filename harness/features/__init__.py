"""The store of frozen-backbone features: computed once, read by every epoch, seed, method and process."""
