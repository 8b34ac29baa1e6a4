"""What decides on payments: scoring and its parts, trials of new versions, and looks at past payments."""
