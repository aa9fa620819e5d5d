# Generated from _toc.yml; do not edit (691c2a9382b1)
"""What the chapters of the part “Reasoning” make."""
