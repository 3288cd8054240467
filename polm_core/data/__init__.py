"""Datasets: reading uploaded files, finding out what they hold, and writing them as canonical rows.

An upload travels through these modules, each of which only knows those above it:

| module | what is there |
|---|---|
| `limits`, `problems`, `values` | bounds on a file, faults of a row, reading a value out of a row |
| `source`, `identify` | the bytes of a file (gunzipped, guarded, valid UTF-8) and its kind |
| `json_rows`, `table_rows`, `readers` | rows out of JSONL, JSON, CSV, text and Parquet in constant memory |
| `messages`, `steps` | every dialect of messages to role and content; solutions in steps with their labels |
| `edits` | facts to change, with paraphrases and neighbours |
| `mapping`, `apply` | which column plays which role, and a canonical row out of a row |
| `observe`, `names`, `detect` | what the columns hold, and the format and mapping that follow from it |
| `report`, `rows`, `stats` | what preparation leaves behind: the report, the rows with their index, the figures |
| `prepare` | the whole journey, also as `python -m polm_core.data.prepare job.yaml` in a process of its own |
| `preview`, `check` | the head of a file before preparation; a verdict for the command line |
| `convert` | from one format to another where nothing has to be invented |
| `samples` | four small datasets of our own making |

Rows are numbered from 1, as a person counts them: in JSONL the line, in CSV and Parquet the row below the header, in
text the paragraph or line. Nothing here needs torch or Django, and pyarrow only to read Parquet.
"""
