"""``python -m dartlib.engines``: make the embedded model if it is missing, and print its folder."""

import sys

from dartlib.engines.models import ModelError, embedded_model

if __name__ == "__main__":
    try:
        print(embedded_model(say=lambda line: print(line, file=sys.stderr, flush=True)))
    except ModelError as failure:
        sys.exit(f"error: {failure}")
