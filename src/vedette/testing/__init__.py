"""Conformance suites, generators and fakes for authors of engines, stores and connectors; needs `hypothesis`."""
