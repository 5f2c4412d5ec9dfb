"""Reads captions and transcripts as running speech, with the seconds at which each part of it is said.

`captions.read_captions` and `transcripts.read_json_or_transcript` are the readers. A parser of one layout
turns a text into cues; `speech.write_speech` joins them.

May import: queue_schemas, quota, evaluation, api_keys, scaling, retry, system_parts and
below.
"""
