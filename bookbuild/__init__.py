"""Build a literate book: tangle, execute, validate and render its chapters."""
