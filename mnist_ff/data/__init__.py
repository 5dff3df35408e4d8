"""Image files to verified uint8 tensors: catalog, download, cache, splits."""
