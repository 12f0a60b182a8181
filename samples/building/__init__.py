"""From structure files and lattices to oriented, carved, column-labelled atoms."""
