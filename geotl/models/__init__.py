"""Networks with their weights, and the model file."""
