"""The loop of rules: test them, try them on the past, ship them in stages, see what they cover."""
