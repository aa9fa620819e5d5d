"""The e-book: an EPUB 3 of the same pages, its formulas as MathML."""
