"""Whether the images of an executed cell decode; what they show is not compared."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree
from typing import Any

SVG = "image/svg+xml"
RASTER = {"image/png": "PNG", "image/jpeg": "JPEG"}


def broken_image(cell: dict[str, Any]) -> str:
    """What is wrong with the first image of a cell that does not decode, or nothing."""
    for output in cell["outputs"]:
        for mime, value in output.get("data", {}).items():
            fault = ""
            if mime == SVG:
                fault = _broken_svg(value)
            elif mime in RASTER:
                fault = _broken_raster(value, RASTER[mime])
            if fault:
                return f"its {mime} output {fault}"
    return ""


def _broken_svg(text: Any) -> str:
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, TypeError) as error:
        return f"is not XML: {error}"
    if root.tag.rpartition("}")[2] != "svg":
        return f"is not a drawing: its root is <{root.tag}>"
    box = root.get("viewBox", "").replace(",", " ").split()
    for position, side in enumerate(("width", "height"), 2):
        size = root.get(side) or (box[position] if len(box) == 4 else "")
        number = re.match(r"\s*\+?[0-9.]+", size)
        if number is None or not float(number[0].strip(" +.") or 0) > 0:
            return f"has no {side}"
    if len(root) == 0:
        return "is empty"
    return ""


def _broken_raster(text: Any, form: str) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(base64.b64decode(text)), formats=[form]) as image:
            image.load()
    except UnidentifiedImageError:
        return f"is not a {form}"
    except (OSError, SyntaxError, ValueError, TypeError) as error:
        return f"does not decode: {error}"
    return ""
