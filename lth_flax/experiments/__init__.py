"""The commands: each module is one experiment and reads as its steps."""
