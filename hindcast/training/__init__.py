"""From split entities to fitted candidates: the training set, the search, the refit."""
