"""`geotl map`: a scene predicted block by block and written as maps."""
