"""Features. A module of this folder that compiles functions needs numba's cache when it is imported."""

from surveillance_pipelines.compilation import choose_cache

choose_cache()
