"""What is asked: prompt templates, the procedural ladders, and files of own problems."""

from dartlib.queries.templates import TEMPLATES, Template, get_template

__all__ = ["TEMPLATES", "Template", "get_template"]
