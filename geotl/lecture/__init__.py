"""The lecture's demonstrations; only the command line imports them."""
