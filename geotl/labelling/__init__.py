"""`geotl label`: labels placed in a page, and the map that follows them."""
