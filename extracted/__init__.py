# Generated from _toc.yml; do not edit (78b0bbadcb58)
"""The package that the book's chapters make."""
