"""Questions to what is stored: searches, steps a case keeps, hunts, hosts, and the way of one request."""
