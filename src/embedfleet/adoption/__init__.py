"""Takes over collections that another system filled, and gives everything back.

A source is read and never changed. What is right in it is taken as it is, the rest is embedded again.

`layout` says what a layout of a source tells, and `layouts` has them. `survey` reads what there is. `groups`
and `sampling` decide which vectors are right. `judging` decides for each document, `placing` finds its chunks
in its text, and `texts` reads that text elsewhere. `reading` reads pages of documents for them. `preparing`
makes of what is taken the rows that `beginning` and `writing` write. `adopting` puts this together by the
`options`, and `report` says what became of everything.

`exporting` reads what is given back and checks it, `export_rows` makes rows of it, `parquet_files` writes
them, and `export_folder` puts the folder in its place.

May import: views, tracking, administration and below.
"""
