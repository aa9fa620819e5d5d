# Generated from _toc.yml; do not edit (987a96ef3666)
"""What the chapters of the part “Foundations” make."""
