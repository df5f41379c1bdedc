"""Recipes, and `geotl run`: from a recipe to a run folder."""
