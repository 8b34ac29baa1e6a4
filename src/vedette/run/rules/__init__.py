"""The loop of rules: test them, try them on the past, gate what is shipped, see what they cover."""
