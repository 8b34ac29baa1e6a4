"""Pipelines and wiring: where the rooms are connected and events flow.

`platform` builds every part from the settings, `parts` opens each when it is first asked for, `guard` and `supervision`
keep work going. What they connect stands in a folder for each speed of the loop: `pipeline` follows the log, `payments`
decides, `rules` tests and ships, `intel` and `investigation` look back, `cases` answers, `jobs` runs on a schedule.

A pipeline is a log with consumers behind it. A consumer keeps its place in the log inside its own state, so that its
effect and its place move together: whatever dies, nothing is lost and nothing counts twice.
"""
