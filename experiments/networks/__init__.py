"""Networks as two functions of plain arrays: the built-in ones and a user's own."""
