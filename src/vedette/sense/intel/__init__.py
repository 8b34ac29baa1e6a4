"""Knowledge that people import: MITRE ATT&CK, with its version. None of it comes with the product."""
