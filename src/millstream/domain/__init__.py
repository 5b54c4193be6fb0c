"""Pure values and rules: no input, no output, no driver. Every other layer may import it."""
