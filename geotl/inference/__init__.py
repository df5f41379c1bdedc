"""A model over windows of scenes: predictions, applicability, where to label next."""
