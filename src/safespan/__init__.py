"""safespan: does a safety subspace exist in this language model?"""

import lazy_loader

# A public name is imported when it is first used, so that the command line answers at once; __init__.pyi lists them.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
