"""Synthetic training tiles by a GAN; only the command line imports them."""
