"""Beta, chosen by cross-validation."""
