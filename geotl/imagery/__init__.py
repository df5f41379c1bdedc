"""Sensors, products and scenes: windows of pixels with their validity."""
