"""Files, rasters, vectors and tables: what is read from disk and written to it."""
