"""What follows the log: from files and pushes into it, and from it to store, index, detections and alerts."""
