"""Image files to checked uint8 tensors: catalog, fetch, cache, splits."""
