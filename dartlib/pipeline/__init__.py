"""On top of all rooms: run folders, manifests, headless notebooks and the command line.

Notebooks need two names of it; the rest is behind the `dartlib` command.
"""

from dartlib.pipeline.interactive import describe_machine, repository_path

__all__ = ["describe_machine", "repository_path"]
