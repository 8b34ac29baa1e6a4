"""Cases from every room: their files, which alerts are theirs, playbooks that answer, incidents to play."""
