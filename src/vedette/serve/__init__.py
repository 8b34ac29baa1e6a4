"""The HTTP API: one application over a wired platform, every route with a policy, every error in one shape.

The decision route is plain ASGI so that an answer costs microseconds; the rest is FastAPI with OpenAPI. Nothing here
decides or moves anything: a route parses, asks the room, and answers.

Example:
    `vedette serve --home .vedette --model model/ --rules rules.yaml`
"""
