"""What specimens do by themselves: atoms that hop, particles that turn and sinter."""
