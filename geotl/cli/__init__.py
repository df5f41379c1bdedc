"""The commands; heavy imports wait inside the functions."""
