"""Colours of the map layers, which the tiles and the page's legends share."""

CONFIDENCE = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")  # viridis, from 0 to 1
OUTSIDE = ("#ffb000", "#e3472f", "#7a0016")  # just outside the area of applicability, to far
