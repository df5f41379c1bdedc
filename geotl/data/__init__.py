"""Labels, chips, tiles and splits: from imagery and labels to rows to learn from."""
