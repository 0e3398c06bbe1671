"""Interactive parts of a notebook: controls where somebody is there to use them, one static output elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dartlib.processes import a_person_is_watching


def explore(view: Callable[..., None], **controls: Any) -> None:
    """Controls that call ``view`` with what is chosen; headlessly ``view()`` once, and no widget is made.

    ``controls`` has one entry per parameter of ``view``: a list to choose from, the least and greatest number of a
    slider (and its step), or a text to edit, which must be the parameter's default. They start at the defaults, which
    is also what the headless output shows. A widget's output travels to the front end and back to the kernel, one
    message per piece of it: a runner without a person needs none of that and must not wait for it.
    """
    if not a_person_is_watching():
        view()
        return
    import ipywidgets
    from IPython.display import display

    display(ipywidgets.interactive(view, **controls))
