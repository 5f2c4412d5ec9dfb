"""Files to text: format detection, extraction, and the child process it runs in.

`sandbox.ParserSandbox` is what others use; `formats` says what is understood. Everything `child`
imports runs confined, next to hostile input, and starts fast: no settings, no models, no database.

May import: queue_schemas, errors, settings.
"""
