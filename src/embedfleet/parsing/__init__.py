"""Extracts the text of files: detects their formats and parses them in a confined child process.

Other packages use `sandbox.ParserSandbox`; `formats` lists the formats. The modules that `child` imports run
confined, beside hostile input, and must start fast: they import no settings, no models and no database.

May import: queue_schemas, quota, evaluation, api_keys, scaling, retry, system_parts and
below.
"""
