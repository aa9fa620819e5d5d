"""Build a literate book: tangle, execute, validate and render MyST Markdown chapters."""
