"""The errors that engines raise (EngineError, RefusedError below it), and how an error becomes one line."""

MAX_LINE = 1000
"""Characters of a message; what is longer loses its middle: the cause stands in front, the cure at the end."""


class EngineError(RuntimeError):
    """A model that does not load, build, run or agree with its reference."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class RefusedError(EngineError):
    """An engine that was built and gave a wrong answer to the golden input."""


def one_line(text: str, limit: int = MAX_LINE) -> str:
    """`text` as one line that any terminal shows: what does not print is escaped, as in `\\n`.

    Names of files and what libraries say may hold line breaks, control sequences, marks that turn the writing direction
    or halves of characters.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: 4 * limit])
    if len(text) > 4 * limit or len(shown) > limit:
        tail = "".join(c if c.isprintable() else " " for c in text[-limit // 4 :])
        shown = f"{shown[: limit - len(tail) - 3]} … {tail}"
    return shown
