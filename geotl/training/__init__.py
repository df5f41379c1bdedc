"""Augmentation, losses, heads and the training of networks."""
