"""One small file per family: each reads the config.json of its model types into a ModelSpec.

A family file defines `READERS: dict[str, Reader]`; `planner.architecture.registry` collects them.
"""
