"""How stored leaves are rounded, packed into blocks and read back."""
