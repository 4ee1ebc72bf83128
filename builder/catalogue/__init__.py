"""Catalogue: the TOML files of `projects/` become one value."""
