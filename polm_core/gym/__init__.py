"""reasoning-gym: tasks that make up questions, each with a scorer of answers to them.

| module | is |
|---|---|
| `tasks` | which tasks there are and how hard each can be, from `tasks.json`, without the library |
| `library` | the library itself: rows of a task, and what its scorer says of an answer |

`PYTHONHASHSEED=0 python -m polm_core.gym` prints `tasks.json` as another version of the library has it; a test holds
the two equal.
"""
