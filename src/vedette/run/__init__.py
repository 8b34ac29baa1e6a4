"""Pipelines and wiring: where the rooms are connected and events flow.

A pipeline is a log with consumers behind it. A consumer keeps its place in the log inside its own state, so that its
effect and its place move together: whatever dies, nothing is lost and nothing counts twice. `platform` builds every
part from the settings; `stream` drives consumers; `files` reads sources into the log; `metrics` counts.
"""
