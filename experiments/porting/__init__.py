"""From the optimizer of another system to code that takes the same steps here."""
