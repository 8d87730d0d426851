"""Published benchmark files turned into labelled rows; run from a checkout with `python -m builders`."""
