# Generated from _toc.yml; do not edit (41c409151ab4)
"""What the chapters of the part “Alignment” make."""
