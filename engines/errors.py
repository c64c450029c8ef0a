"""The one error that engines raise."""


class EngineError(RuntimeError):
    """A model that does not load, build, run or agree with its reference."""
