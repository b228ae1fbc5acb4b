"""The results of a run: its folder, tables and manifest."""

import lazy_loader

# Row classes are imported where polars is not needed; __init__.pyi lists the public names.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
