"""One file per library; imported only through `engines.registry`."""
