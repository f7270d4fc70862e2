"""The commands: each file adds one, or a group of them, to the application."""
